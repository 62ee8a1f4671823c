//! Operations on media: what users of this server have uploaded, and copies of media of other servers.

mod delete;
mod in_room;
mod in_use;
mod list;
mod mark;
mod show;
mod storage;
mod sweep;

pub use delete::{Delete, DeleteBefore, DeleteByRoom, DeleteByUser, PurgeRemote};
pub(crate) use in_room::all_media;
pub use in_use::pictures_in_use;
pub use list::List;
pub use mark::{Protect, Quarantine, QuarantineRoom, QuarantineUser, Unprotect, Unquarantine};
pub use show::Show;
pub use storage::{Quota, Usage};
pub(crate) use sweep::{Cursor as SweepCursor, Deed, Source, Sweep, SweepMedia};
