//! Telling clients what has changed: classic `/sync`, simplified sliding sync, and waiting for news.
//!
//! Invariants:
//! - This crate reads the other domains and writes nothing of theirs, except that it acknowledges
//!   to-device messages that a client's next token proves to have arrived.
//! - An answer holds what was committed up to one position, which its token names; the next request
//!   begins after it. Nothing lies between, nothing comes twice unless a request is repeated.
//! - A client is registered for wake-ups before its request looks for news, so that what is committed
//!   after the look wakes it. Wake-ups carry no data.
//! - Looking for news costs what has changed, not the rooms that the user is in.
//! - Tokens are opaque and versioned, and read strictly: what this crate would not have written is refused.
//!
//! Formats of tokens: see [`SyncToken`] for `next_batch`; `prev_batch` is a [`rooms::Cursor`];
//! the `pos` of sliding sync begins with the number of its connection (module `sliding::connection`).

mod account_data;
mod config;
mod counts;
mod device_lists;
mod error;
mod events;
mod feed;
mod filter;
mod initial;
mod invites;
mod json;
mod members;
mod meters;
mod presence;
mod profiles;
mod receipts;
mod sliding;
mod state;
mod sticky;
mod stream;
mod stripped;
mod summary;
mod sync;
mod thread_subscriptions;
mod timeline;
mod to_device;
mod token;
mod typing;
mod v3;
mod waiters;
mod wake;

pub use config::SyncConfig;
pub use error::SyncError;
pub use filter::{EventFilter, Filter, FilterError, ProfileFieldFilter, RoomEventFilter, RoomFilter};
pub use sliding::request::{
    Extensions, ListConfig, ListFilters, RequiredState, RoomConfig, SlidingRequest, StateElement, Switch,
    ToDeviceConfig,
};
pub use sync::{Sync, SyncParts};
pub use token::SyncToken;
pub use v3::V3Request;
