//! The bytes of bodies that are in memory, those that come and those that go, of all connections together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

/// A share of what all connections may hold together.
#[derive(Debug)]
pub(super) struct Held {
    all: Arc<AtomicUsize>,
    most: usize,
    own: usize,
}

impl Held {
    /// Nothing is held.
    pub(super) fn new(most: usize) -> Self {
        Self { all: Arc::default(), most, own: 0 }
    }

    /// Another share of the same, empty.
    pub(super) fn share(&self) -> Self {
        Self { all: self.all.clone(), most: self.most, own: 0 }
    }

    /// Takes so much more; false: there is not so much.
    pub(super) fn more(&mut self, bytes: usize) -> bool {
        if self.all.load(Ordering::Relaxed).saturating_add(bytes) > self.most {
            return false;
        }
        self.all.fetch_add(bytes, Ordering::Relaxed);
        self.own += bytes;
        true
    }

    /// The same bytes, which count until they are dropped.
    pub(super) fn keep(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Kept { bytes, _held: self })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

struct Kept {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
