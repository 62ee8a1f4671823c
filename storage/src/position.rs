//! Positions in the store's log of changes, and the topics that a change touches.

use serde::{Deserialize, Serialize};

/// The place of one committed batch in the order of all durable changes of this store.
///
/// Dense: the first batch is 1, the next 2, with no gaps, over restarts too. 0 means "before everything".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamPos(pub u64);

impl StreamPos {
    /// Before the first batch.
    pub const ZERO: StreamPos = StreamPos(0);
    /// Stands for "the position this batch will get" in keys and in [`crate::Stamped`]; the committer replaces it.
    pub const PENDING: StreamPos = StreamPos(u64::MAX);

    /// The position after this one.
    #[must_use]
    pub const fn next(self) -> StreamPos {
        StreamPos(self.0.saturating_add(1))
    }
}

impl std::fmt::Display for StreamPos {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What a batch changes, as an opaque number that readers can wait for: a kind in the top byte, an id in the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(pub u64);

impl Topic {
    const ID_BITS: u32 = 56;
    const ID_MASK: u64 = (1 << Self::ID_BITS) - 1;

    /// A topic of `kind` for `id`, which must be below 2^56; higher bits are cut off.
    #[must_use]
    pub const fn new(kind: u8, id: u64) -> Topic {
        Topic(((kind as u64) << Self::ID_BITS) | (id & Self::ID_MASK))
    }

    /// The kind given to [`Topic::new`].
    #[must_use]
    pub const fn kind(self) -> u8 {
        (self.0 >> Self::ID_BITS) as u8
    }

    /// The id given to [`Topic::new`].
    #[must_use]
    pub const fn id(self) -> u64 {
        self.0 & Self::ID_MASK
    }
}
