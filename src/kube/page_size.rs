//! How many items a page of a list may have.

use super::client::BODY_BYTES_MAX;

/// Items per page. kubectl uses 500 as well; with a typical 5 KB per object a page has 2.5 MB.
const ITEMS_MAX: u32 = 500;

/// After a page of up to this size, one of twice as many objects is likely to fit as well.
const SMALL_BYTES: usize = BODY_BYTES_MAX as usize / 4;

/// How many items a page may have, by how large the pages before were.
#[derive(Debug)]
pub(super) struct PageSize {
    items: u32,
    items_max: u32,
}

impl Default for PageSize {
    fn default() -> Self {
        Self::new(ITEMS_MAX)
    }
}

impl PageSize {
    pub(super) fn new(items_max: u32) -> Self {
        Self { items: items_max, items_max }
    }

    pub(super) fn items(&self) -> u32 {
        self.items
    }

    /// Halves it after a page that was too large; returns false if it had one item.
    pub(super) fn shrink(&mut self) -> bool {
        let can_shrink = self.items > 1;
        self.items = (self.items / 2).max(1);
        can_shrink
    }

    /// Notes the size of a page that fitted, so that a few large objects do not make all later pages small.
    pub(super) fn fitted(&mut self, bytes: usize) {
        if bytes <= SMALL_BYTES {
            self.items = (self.items * 2).min(self.items_max);
        }
    }
}
