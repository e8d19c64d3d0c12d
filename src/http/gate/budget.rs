//! Shares that connections have of a bounded sum.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that one connection holds, released when it is dropped.
pub(super) struct Share {
    total: Arc<AtomicUsize>,
    size: usize,
}

impl Share {
    pub(super) fn none(total: &Arc<AtomicUsize>) -> Share {
        Share { total: Arc::clone(total), size: 0 }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Sets the bytes held to `size`; returns what all connections hold together.
    pub(super) fn set(&mut self, size: usize) -> usize {
        let held = std::mem::replace(&mut self.size, size);
        // A decrease wraps around, and so does the sum, which gives the right result.
        let change = size.wrapping_sub(held);
        self.total.fetch_add(change, Ordering::AcqRel).wrapping_add(change)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_and_go_with_their_holders() {
        let total = Arc::new(AtomicUsize::new(0));
        let (mut one, mut other) = (Share::none(&total), Share::none(&total));
        assert_eq!((one.set(10), other.set(5), one.set(3)), (10, 15, 8));
        drop(one);
        assert_eq!((total.load(Ordering::Acquire), other.size()), (5, 5));
        drop(other);
        assert_eq!(total.load(Ordering::Acquire), 0);
    }
}
