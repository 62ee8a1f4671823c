//! Searching messages (Client-Server API §Server Side Search): an index of words that follows the store.
//!
//! Invariants:
//! - This crate reads rooms and users and writes nothing of theirs; its own are the index's folder and one keyspace.
//! - The index can be lost at any time: it is built again from the rooms. How far it has come is committed with it, as
//!   one, so that no crash makes it forget or repeat an event.
//! - Nobody waits for the index but those who ask it: it is written by a task, behind the commits.
//! - The index decides nothing about who may see what. Each result was read through the viewer's [`rooms::RoomView`], and
//!   its present text has the words that were asked for; counts are of such results only.
//! - Work for one search is bounded, and so is the memory that adding to the index takes, which is given back when there
//!   is nothing to add.

mod collect;
mod config;
mod content;
mod error;
mod find;
mod follow;
mod index;
mod indexer;
mod search;
mod terms;
mod text;
mod token;

pub use config::SearchConfig;
pub use content::SearchKey;
pub use error::SearchError;
pub use find::{Found, Hit, SearchQuery};
pub use indexer::BuildStatus;
pub use search::{KEYSPACES, Search, SearchParts};
pub use token::{Group, Order, Token};
