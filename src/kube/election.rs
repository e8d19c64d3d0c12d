//! Leader election: the state machine behind a `coordination.k8s.io/v1` Lease.
//!
//! Pure: time is an argument, measured by this host's own clock from any origin; requests are returned, not sent.
//! The times in a Lease were written by other hosts and are never compared with this clock. Only the times at which
//! this instance saw the Lease change, and sent the renewal that succeeded, count. So no clock has to be right: it only
//! has to run at about the speed of the others.
//!
//! The holder may write until [`Election::valid_until`], which is earlier than any other instance may take the Lease.
//! After that nothing is lost yet: while the API server cannot be reached nobody can take the Lease, and an instance
//! that is still its holder afterwards continues.

use std::time::Duration;

/// The three durations of an election, as in Kubernetes' own components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long others wait after the last change that they have seen.
    pub lease_duration: Duration,
    /// How long the holder acts after its last renewal; shorter than `lease_duration`, by as much as clocks may drift
    /// and requests may linger.
    pub renew_deadline: Duration,
    /// Time between two attempts at any step.
    pub retry_period: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// A Lease as the API server shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Empty if there is none.
    pub holder: String,
    /// Time within which the holder has promised to renew it.
    pub duration: Duration,
    pub transitions: u32,
    pub resource_version: String,
}

/// The next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Read,
    /// There is no Lease: create one with this instance as its holder.
    Create,
    /// Take or renew the Lease of exactly this version.
    Write {
        resource_version: String,
        transitions: u32,
        /// Another holder, or none, had it before.
        acquires: bool,
    },
}

#[derive(Debug)]
pub struct Election {
    identity: String,
    timing: Timing,
    known: Option<Seen>,
    /// `known` may be outdated, because of a watch event or a conflict.
    must_read: bool,
    /// Another holder has the Lease at least until then.
    taken_until: Duration,
    /// When the current renewal was sent.
    renewed_at: Option<Duration>,
    has_led: bool,
    due: Duration,
    end: Option<End>,
}

/// The final states.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// This instance held the Lease, and another one has it now.
    Deposed(String),
    Released,
}

impl Election {
    pub fn new(identity: String, timing: Timing) -> Self {
        Self {
            identity,
            timing,
            known: None,
            must_read: true,
            taken_until: Duration::ZERO,
            renewed_at: None,
            has_led: false,
            due: Duration::ZERO,
            end: None,
        }
    }

    /// Until when this instance may write; `None` if it may not.
    pub fn valid_until(&self) -> Option<Duration> {
        self.renewed_at.map(|at| at + self.timing.renew_deadline)
    }

    /// Returns true from the first time that this instance held the Lease until another one does.
    pub fn leads(&self) -> bool {
        self.has_led && self.end.is_none()
    }

    /// Returns the holder that has taken the Lease from this instance, which is final.
    pub fn deposed_by(&self) -> Option<&str> {
        match &self.end {
            Some(End::Deposed(holder)) => Some(holder),
            Some(End::Released) | None => None,
        }
    }

    /// Returns the known holder of the Lease; empty if there is none.
    pub fn holder(&self) -> &str {
        self.known.as_ref().map_or("", |seen| &seen.holder)
    }

    /// Returns when to call [`Self::next`] again; `None` if never.
    pub fn next_at(&self) -> Option<Duration> {
        self.end.is_none().then_some(self.due)
    }

    /// Returns the request to send now, if any. Its result must be reported before the next call.
    pub fn next(&mut self, now: Duration) -> Option<Action> {
        if self.end.is_some() || now < self.due {
            return None;
        }
        if self.must_read {
            return Some(Action::Read);
        }
        let is_free = now >= self.taken_until;
        match &self.known {
            None if is_free => Some(Action::Create),
            Some(seen) if seen.holder == self.identity || is_free => Some(Action::Write {
                resource_version: seen.resource_version.clone(),
                transitions: seen.transitions,
                acquires: seen.holder != self.identity,
            }),
            // A watch may be silently dead for a while, so the Lease is read as well.
            _ => Some(Action::Read),
        }
    }

    /// Records the answer to [`Action::Read`]; `None` if there is no Lease.
    pub fn read(&mut self, seen: Option<Seen>, now: Duration) {
        self.must_read = false;
        self.observe(seen, now);
    }

    /// Records that a Create or Write that was sent at `sent_at` has succeeded.
    pub fn written(&mut self, seen: Seen, sent_at: Duration) {
        self.known = Some(seen);
        self.must_read = false;
        self.renewed_at = Some(sent_at);
        self.has_led = true;
        self.due = sent_at + self.timing.retry_period;
    }

    /// Records a conflict: another instance has changed the Lease.
    pub fn refused(&mut self, now: Duration) {
        self.must_read = true;
        self.due = now;
    }

    /// Records that there was no answer, or one without news of the Lease. The request may still have been carried out.
    pub fn failed(&mut self, now: Duration) {
        self.due = now + self.timing.retry_period;
    }

    /// Records that what is known of the Lease may be wrong, so that it is read before it is written again.
    pub fn doubted(&mut self) {
        self.must_read = true;
    }

    /// Records what a watch shows, which may be older than what is known.
    pub fn noticed(&mut self, seen: Option<Seen>, now: Duration) {
        let is_ours = seen.as_ref().is_some_and(|seen| seen.holder == self.identity);
        if self.has_led {
            if !is_ours {
                self.refused(now);
            }
            return;
        }
        let is_free = seen.as_ref().is_none_or(|seen| seen.holder.is_empty());
        if seen.is_some() {
            self.observe(seen, now);
        }
        if is_free {
            // Deleted or released. If that is outdated, the write is refused.
            self.must_read |= self.known.as_ref().is_none_or(|known| !known.holder.is_empty());
            self.due = now;
        }
    }

    /// Gives the Lease up for good; returns its version if this instance can release it.
    pub fn release(&mut self) -> Option<String> {
        let leads = self.leads() && self.renewed_at.is_some();
        self.end.get_or_insert(End::Released);
        self.renewed_at = None;
        self.known.as_ref().filter(|_| leads).map(|seen| seen.resource_version.clone())
    }

    fn observe(&mut self, seen: Option<Seen>, now: Duration) {
        let is_news = self.known.as_ref().map(|known| &known.resource_version)
            != seen.as_ref().map(|seen| &seen.resource_version);
        match &seen {
            Some(seen) if seen.holder == self.identity => self.due = now,
            Some(other) if !other.holder.is_empty() => {
                if self.has_led {
                    self.end = Some(End::Deposed(other.holder.clone()));
                    self.renewed_at = None;
                }
                if is_news {
                    self.taken_until = now + other.duration;
                }
                self.due = self.taken_until.min(now + self.timing.retry_period);
            }
            // Released by its holder.
            Some(_) => {
                self.renewed_at = None;
                self.taken_until = now;
                self.due = now;
            }
            // Deleted by hand: the holder may not know yet, so the promised time still counts.
            None => {
                self.renewed_at = None;
                self.due = self.taken_until.clamp(now, now + self.timing.retry_period);
            }
        }
        self.known = seen;
    }
}

#[cfg(test)]
mod tests;
