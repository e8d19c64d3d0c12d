//! Who may act: the state machine behind a `coordination.k8s.io/v1` Lease.
//!
//! Pure: time is an argument, measured by this host's own clock from any origin; requests are returned, not sent.
//! The times that a Lease carries were written by other hosts and are never compared with ours. What counts is when
//! *we* saw the Lease change, and when *we* sent the renewal that succeeded, so that no clock has to be right: it
//! only has to run at about the speed of the others'.
//!
//! The instance that holds the Lease may write until [`Election::valid_until`], which is earlier than anybody else
//! may take the Lease. Past it nothing is lost yet: as long as the API server cannot be reached, nobody can take the
//! Lease, and whoever still finds itself in it goes on.

use std::time::Duration;

/// The three durations of an election, as in Kubernetes' own components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long others wait after the last change that they saw.
    pub lease_duration: Duration,
    /// How long the holder acts after its last renewal; shorter than `lease_duration` by what clocks may drift and
    /// requests may linger.
    pub renew_deadline: Duration,
    /// Between two tries of whatever is to be done.
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
    /// Empty if nobody holds it.
    pub holder: String,
    /// What its holder has promised to renew it within.
    pub duration: Duration,
    pub transitions: u32,
    pub resource_version: String,
}

/// The next request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Read,
    /// There is no Lease: make it, ours.
    Create,
    /// Put ourselves, or ourselves again, into the Lease of exactly this version.
    Write {
        resource_version: String,
        transitions: u32,
        /// It was not ours before.
        acquires: bool,
    },
}

#[derive(Debug)]
pub struct Election {
    identity: String,
    timing: Timing,
    known: Option<Seen>,
    /// Whether `known` is the API server's latest word; a watch or a conflict can put it in doubt.
    must_read: bool,
    /// Another holder has the Lease until then at least.
    taken_until: Duration,
    /// When the renewal in force was sent.
    renewed_at: Option<Duration>,
    has_led: bool,
    due: Duration,
    end: Option<End>,
}

/// After which nothing more is done.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// We held the Lease and somebody else has it now.
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

    /// Until when the holder may write; `None` while another one may.
    pub fn valid_until(&self) -> Option<Duration> {
        self.renewed_at.map(|at| at + self.timing.renew_deadline)
    }

    /// True from the first time that the Lease was ours, until it is somebody else's.
    pub fn leads(&self) -> bool {
        self.has_led && self.end.is_none()
    }

    /// Who has taken the Lease from us. There is no way back from here.
    pub fn deposed_by(&self) -> Option<&str> {
        match &self.end {
            Some(End::Deposed(holder)) => Some(holder),
            Some(End::Released) | None => None,
        }
    }

    /// Who holds the Lease as far as is known; empty for nobody.
    pub fn holder(&self) -> &str {
        self.known.as_ref().map_or("", |seen| &seen.holder)
    }

    /// When to ask [`Self::next`] again; `None` for never.
    pub fn next_at(&self) -> Option<Duration> {
        self.end.is_none().then_some(self.due)
    }

    /// What to send now, if anything. Its outcome must be handed in before the next call.
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
            // A watch may be silent for a while without anybody noticing, so we read the Lease ourselves.
            _ => Some(Action::Read),
        }
    }

    /// Answer to [`Action::Read`]; `None` if there is no Lease.
    pub fn read(&mut self, seen: Option<Seen>, now: Duration) {
        self.must_read = false;
        self.observe(seen, now);
    }

    /// A Create or Write that was sent at `sent_at` has succeeded.
    pub fn written(&mut self, seen: Seen, sent_at: Duration) {
        self.known = Some(seen);
        self.must_read = false;
        self.renewed_at = Some(sent_at);
        self.has_led = true;
        self.due = sent_at + self.timing.retry_period;
    }

    /// Takes note that somebody else was faster, so that the Lease is not what we took it for.
    pub fn refused(&mut self, now: Duration) {
        self.must_read = true;
        self.due = now;
    }

    /// No answer, or one that says nothing about the Lease. It may have been carried out all the same.
    pub fn failed(&mut self, now: Duration) {
        self.due = now + self.timing.retry_period;
    }

    /// What a watch shows, which may be older than what we know.
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
            // Deleted or let go. If that is old news, the write is refused.
            self.must_read |= self.known.as_ref().is_none_or(|known| !known.holder.is_empty());
            self.due = now;
        }
    }

    /// Gives the Lease up for good; returns its version, if it is ours to hand over.
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
            // Its holder has released it.
            Some(_) => {
                self.renewed_at = None;
                self.taken_until = now;
                self.due = now;
            }
            // It was deleted by hand. Its holder may not know that yet, so its promised time still counts.
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
