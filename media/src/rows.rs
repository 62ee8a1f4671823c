//! The keyspaces of this crate.

use serde::{Deserialize, Serialize};
use storage::{Keyspace, KeyspaceInfo, Profile, StreamPos, stored};

use crate::disk::Hash;

/// Server and media id.
pub(crate) type MediaKey = (String, String);

/// What is known about each media, local or cached.
pub(crate) const MEDIA: Keyspace<MediaKey, MediaRow> = Keyspace::new("media", Profile::Points);
/// How many rows use a file on disk.
pub(crate) const FILES: Keyspace<Hash, i64> = Keyspace::new("media_files", Profile::Points);
/// Reserved ids that wait for their upload: user, expiry, media id.
pub(crate) const PENDING: Keyspace<(String, u64, String), ()> = Keyspace::new("media_pending", Profile::Points);
/// Thumbnails: server, media id, size, whether animated.
pub(crate) const THUMBNAILS: Keyspace<ThumbnailKey, ThumbnailRow> = Keyspace::new("media_thumbnails", Profile::Points);

pub(crate) type ThumbnailKey = (String, String, u8, bool);

/// What was found at a URL, by the SHA-256 of the URL.
pub(crate) const PREVIEWS: Keyspace<Hash, PreviewRow> = Keyspace::new("media_previews", Profile::Points);
/// What is to be forgotten of previews: from when on (milliseconds since the Unix epoch), which preview, and the media
/// id of its image, empty if it has none.
pub(crate) const PREVIEWS_DUE: Keyspace<(u64, Hash, String), ()> = Keyspace::new("media_previews_due", Profile::Points);

/// What moderators said about media: quarantine and protection. It outlives the media.
pub(crate) const MARKS: Keyspace<MediaKey, MarkRow> = Keyspace::new("media_marks", Profile::Points);
/// How many quarantined media had these bytes: whatever has them is not shown.
pub(crate) const QUARANTINED_FILES: Keyspace<Hash, i64> = Keyspace::new("media_quarantined_files", Profile::Points);
/// Each change of a quarantine, in order.
pub(crate) const QUARANTINE_LOG: Keyspace<StreamPos, QuarantineRow> =
    Keyspace::new("media_quarantine_log", Profile::Log);
/// When media were last asked for, to within a day: milliseconds since the Unix epoch.
pub(crate) const ACCESSES: Keyspace<MediaKey, u64> = Keyspace::new("media_accesses", Profile::Points);
/// Complete media of this server by uploader, time of upload and media id, with their length in bytes.
pub(crate) const BY_USER: Keyspace<(String, u64, String), u64> = Keyspace::new("media_by_user", Profile::Points);
/// How much there is, see `usage.rs`.
pub(crate) const TOTALS: Keyspace<TotalKey, i64> = Keyspace::new("media_totals", Profile::Points);
/// Present once `BY_USER` and `TOTALS` hold what there was before they existed.
pub(crate) const COUNTED: Keyspace<(), u64> = Keyspace::new("media_counted", Profile::Points);
/// What was stored on each day: (day since 1970-01-01 in UTC, whether of this server, 0: how many, 1: bytes) → sum. What
/// is deleted stays counted.
pub(crate) const DAYS: Keyspace<(u32, bool, u8), i64> = Keyspace::new("media_days", Profile::Points);
/// Present once `DAYS` holds what there was before it existed.
pub(crate) const DAYS_COUNTED: Keyspace<(), u64> = Keyspace::new("media_days_counted", Profile::Points);
/// Storage limits that administrators gave to single users, in bytes; `u64::MAX` is none.
pub(crate) const USER_QUOTAS: Keyspace<String, u64> = Keyspace::new("media_user_quotas", Profile::Points);

/// Whose (0: this server's users and previews; 1: copies of remote media; 2: the user), the user, and what (0: how many,
/// 1: bytes).
pub(crate) type TotalKey = (u8, String, u8);

/// Every keyspace of this crate.
pub const KEYSPACES: &[KeyspaceInfo] = &[
    ACCESSES.info(),
    BY_USER.info(),
    COUNTED.info(),
    DAYS.info(),
    DAYS_COUNTED.info(),
    FILES.info(),
    MARKS.info(),
    MEDIA.info(),
    PENDING.info(),
    PREVIEWS.info(),
    PREVIEWS_DUE.info(),
    QUARANTINED_FILES.info(),
    QUARANTINE_LOG.info(),
    THUMBNAILS.info(),
    TOTALS.info(),
    USER_QUOTAS.info(),
];

/// What moderators said about one media.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkRow {
    pub quarantine: Option<Mark>,
    pub protection: Option<Mark>,
    /// The bytes of quarantined media, if they were here then; counted in [`QUARANTINED_FILES`].
    pub hash: Option<Hash>,
}
stored!(MarkRow, 1);

/// Who said so, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    pub by: String,
    pub at_ms: u64,
}

/// A change of a quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QuarantineRow {
    pub server: String,
    pub media_id: String,
    pub quarantined: bool,
    pub by: String,
    pub at_ms: u64,
}
stored!(QuarantineRow, 1);

/// One media.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MediaRow {
    /// The local user who uploaded or reserved it; none for remote media and for images of previews.
    pub uploader: Option<String>,
    pub created_ms: u64,
    pub state: MediaState,
}
stored!(MediaRow, 1);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum MediaState {
    /// Reserved, without content until `expires_ms`.
    Pending {
        expires_ms: u64,
    },
    Complete {
        hash: Hash,
        length: u64,
        content_type: Option<String>,
        file_name: Option<String>,
    },
}

/// What a thumbnail request is answered with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThumbnailRow {
    /// The file; none if the original itself is the answer.
    pub file: Option<(Hash, u64)>,
    pub content_type: String,
}
stored!(ThumbnailRow, 1);

/// What was found at a URL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PreviewRow {
    pub fetched_ms: u64,
    /// From when on it is fetched again.
    pub stale_ms: u64,
    /// OpenGraph properties but for the image.
    pub properties: Vec<(String, String)>,
    pub image: Option<PreviewImage>,
}
stored!(PreviewRow, 1);

/// The image of a preview, kept as a media of this server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PreviewImage {
    pub media_id: String,
    pub content_type: String,
    pub width: u32,
    pub height: u32,
    pub length: u64,
}

/// What is known about a file that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaInfo {
    /// The content type as given by the uploader.
    pub content_type: Option<String>,
    /// The file name as given by the uploader.
    pub file_name: Option<String>,
    /// The length in bytes.
    pub length: u64,
    /// The SHA-256 of the bytes in hexadecimal: an entity tag, since content never changes.
    pub sha256: String,
    /// When it was uploaded, or copied from its server: milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// The local user who uploaded it.
    pub uploader: Option<String>,
}
