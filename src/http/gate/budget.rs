//! What connections hold of something that is bounded in sum.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that one connection holds; given back when it ends, however it ends.
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

    /// Holds `size` bytes from now on; returns what all hold together.
    pub(super) fn set(&mut self, size: usize) -> usize {
        let held = std::mem::replace(&mut self.size, size);
        // Wraps around when it shrinks, and so comes out right.
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
