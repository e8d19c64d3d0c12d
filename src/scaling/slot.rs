//! The writes of one object that are in flight, and when a failed one is tried again.

use super::model::UnixMillis;

/// Each slot has at most one write in flight, and backs off after failures.
#[derive(Debug, Default)]
pub(super) struct Slots {
    pub(super) claim: Slot,
    pub(super) status: Slot,
    pub(super) hpa: Slot,
    pub(super) scale: Slot,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) in_flight: Option<u64>,
    pub(super) failures: u32,
    pub(super) retry_at: Option<UnixMillis>,
    /// The API server has asked for that time.
    pub(super) is_asked: bool,
}

impl Slot {
    pub(super) fn is_free(&self, now: UnixMillis) -> bool {
        self.in_flight.is_none() && self.retry_at.is_none_or(|at| at <= now)
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub(super) fn failed(&mut self, retry_at: UnixMillis, is_asked: bool) {
        self.in_flight = None;
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(retry_at);
        self.is_asked = is_asked;
    }

    /// Begins anew with something else.
    pub(super) fn forget_failures(&mut self) {
        self.failures = 0;
        self.retry_at = self.retry_at.filter(|_| self.is_asked);
    }
}

impl Slots {
    pub(super) fn by_id(&mut self, id: u64) -> Option<&mut Slot> {
        [&mut self.claim, &mut self.status, &mut self.hpa, &mut self.scale]
            .into_iter()
            .find(|slot| slot.in_flight == Some(id))
    }
}
