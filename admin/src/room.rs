//! Rooms: what is in them, who is, and what is to become of them.

mod block;
mod delete;
mod delete_job;
mod extremities;
mod govern;
mod list;
mod purge;
mod read;
mod retention;

pub use block::{Block, Blocked, Unblock};
pub use delete::{Delete, Shutdown};
pub(crate) use delete::{MESSAGE, ROOM_NAME};
pub(crate) use delete_job::{DeleteArguments, DeleteCursor, DeleteRoom, NewRoom};
pub use extremities::{DropExtremities, Extremities};
pub(crate) use govern::join;
pub use govern::{Join, Kick, MakeAdmin};
pub use list::{List, Show};
pub use purge::Purge;
pub(crate) use purge::{PurgeHistory, cut_before, start_purge};
pub use read::{Event, Members, Messages, State};
pub(crate) use read::{find_event, render};
pub use retention::{Retention, SetRetention};
