//! The content repository: files that users upload, copies of remote files, and thumbnails. No HTTP here.
//!
//! Invariants:
//! - Bytes are stored once per SHA-256. A file on disk is complete: it is written under a temporary name, synced
//!   and renamed. Its row in `media_files` counts the media and thumbnails that use it.
//! - The file is in place before the row that names it is committed, and is removed after the last such row is
//!   gone. A crash in between leaves an unused file, never a row without its file; [`Media::sweep`] removes those.
//! - No file is removed while [`HeldFiles`] exist: rows that are copied meanwhile find their files.
//! - A media id names one content for ever: a reserved id is filled once, a filled one never changes.
//! - No more than a bounded number of bytes of an upload is in memory; the limit holds while bytes arrive.
//! - What strangers' pages say is fetched only through the guard of `outbound`, bounded in size and time.
//! - Media in quarantine, and whatever has the same bytes, are nobody's to see, and not fetched again.
//! - The sums of what users store change in the commit that stores or deletes it, and uploads are measured against them
//!   one after the other.
//! - Images are decoded only within the limits of [`MediaConfig`], on the compute pool, once per media and size.
//!
//! Client-Server API §Content repository.

mod access;
mod catalogue;
mod config;
mod copy;
mod disk;
mod download;
mod error;
mod flights;
pub mod fsck;
mod headers;
mod maintenance;
mod media;
mod meters;
mod mxc;
mod previews;
mod quarantine;
mod quota;
mod remote;
mod render;
mod retention;
mod rows;
mod thumbnails;
mod upload;
mod usage;

pub use catalogue::{MediaContent, MediaOrder, MediaPage, MediaRecord};
pub use config::MediaConfig;
pub use copy::{CopiedFiles, HeldFiles};
pub use disk::MediaWriter;
pub use download::Download;
pub use error::{MediaError, QuotaOf};
pub use headers::{CONTENT_SECURITY_POLICY, RangeRequest, content_disposition, is_inline_type, parse_range};
pub use maintenance::SweepReport;
pub use media::{Media, MediaSetup};
pub use mxc::{InvalidMxc, Mxc};
pub use previews::Previews;
pub use quarantine::{QuarantineChange, Quarantined};
pub use quota::{UploaderRole, UploaderRoles, UserQuota};
pub use remote::{RemoteDescription, RemoteMedia, RemoteMediaError};
pub use retention::{Deleted, Unused};
pub use rows::{KEYSPACES, MediaInfo};
pub use thumbnails::{ThumbnailMethod, ThumbnailRequest};
pub use upload::{Description, Reserved};
pub use usage::{ServerUsage, Usage};
