//! Deleting or quarantining many media at once, in small steps.

use ::media::{Media, Mxc, Quarantined, Unused};
use rooms::RoomSeq;
use serde::{Deserialize, Serialize};
use serde_json::json;
use spec::ids::{RoomId, UserId};

use super::in_room::next_media;
use super::in_use::pictures_in_use;
use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::jobs::{JobKind, Progress, Step};
use crate::outcome::Outcome;

/// How many media of a user one step takes.
const PAGE: usize = 200;
/// How many media a result names: it is one row, as the cursor is. All are counted.
const MAX_NAMED: usize = 500;

/// Which media.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    /// What a user of this server has uploaded.
    User(UserId),
    /// What the events of a room name.
    Room(RoomId),
    /// What nobody has asked for lately.
    Unused {
        /// Of this server, or copies.
        local: bool,
        /// Milliseconds since 1970.
        before_ms: u64,
        /// Bytes.
        larger_than: u64,
        /// Whether pictures of users and rooms go too.
        with_pictures: bool,
    },
}

/// What is done to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Deed {
    Delete,
    Quarantine,
}

impl Deed {
    /// What a result calls it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Deed::Delete => "deleted",
            Deed::Quarantine => "quarantined",
        }
    }
}

/// The whole work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sweep {
    pub source: Source,
    pub deed: Deed,
    /// Who asked for it.
    pub by: String,
    /// Whether the result names media, and not only counts them.
    #[serde(default)]
    pub names: bool,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    /// Where the next step begins, as the source says it; empty at the beginning.
    place: String,
    /// How many were deleted or quarantined.
    pub done: u64,
    /// The bytes of deleted media, where that is known.
    pub bytes: u64,
    /// The ids of the first of them, if they are wanted.
    #[serde(default)]
    pub named: Vec<String>,
    /// Whether nothing is left.
    pub is_finished: bool,
}

impl Cursor {
    fn advance(&mut self, place: Option<String>) {
        self.is_finished = place.is_none();
        self.place = place.unwrap_or_default();
    }
}

/// Does one step: at most a few hundred media. Returns what it did. It can be repeated.
///
/// # Errors
/// `NotFound` if the room is gone; storage errors.
async fn step(admin: &Admin, sweep: &Sweep, cursor: &mut Cursor) -> Result<Vec<Mxc>, AdminError> {
    let media = admin.media();
    let chosen: Vec<Mxc> = match &sweep.source {
        Source::Unused { local, before_ms, larger_than, with_pictures } => {
            let which = Unused { local: *local, before_ms: *before_ms, larger_than: *larger_than, spare_marked: false };
            return delete_unused(admin, &which, *with_pictures, cursor).await;
        }
        Source::User(user) => {
            let place = cursor.place.split_once(' ').and_then(|(at, id)| Some((at.parse().ok()?, id.to_owned())));
            let after = place.as_ref().map(|(at, id)| (*at, id.as_str()));
            let page = media.user_media_after(user.as_str(), after, PAGE)?;
            let last = page.last().filter(|_| page.len() == PAGE);
            cursor.advance(last.map(|(at, mxc)| format!("{at} {}", mxc.media_id())));
            page.into_iter().map(|(_, mxc)| mxc).collect()
        }
        Source::Room(room) => {
            let room = admin.rooms().known_room(room)?;
            let after = cursor.place.parse().map_or(RoomSeq::MIN, RoomSeq);
            let (found, next) = next_media(admin.rooms(), room, after)?;
            cursor.advance(next.map(|seq| seq.0.to_string()));
            found.into_iter().collect()
        }
    };
    let mut done = Vec::new();
    for mxc in chosen {
        if apply(media, sweep, &mxc).await? {
            done.push(mxc);
        }
    }
    cursor.done = cursor.done.saturating_add(count(&done));
    Ok(done)
}

async fn delete_unused(
    admin: &Admin,
    which: &Unused,
    with_pictures: bool,
    cursor: &mut Cursor,
) -> Result<Vec<Mxc>, AdminError> {
    let pictures = match which.local && !with_pictures {
        true => pictures_in_use(admin.rooms(), admin.users())?,
        false => Default::default(),
    };
    let after = Mxc::parse(&cursor.place).ok();
    let deleted = admin.media().delete_unused(which, after.as_ref(), &|mxc| pictures.contains(mxc)).await?;
    cursor.advance(deleted.next.map(|mxc| mxc.to_string()));
    cursor.bytes = cursor.bytes.saturating_add(deleted.bytes);
    cursor.done = cursor.done.saturating_add(count(&deleted.media));
    Ok(deleted.media)
}

async fn apply(media: &Media, sweep: &Sweep, mxc: &Mxc) -> Result<bool, AdminError> {
    match sweep.deed {
        Deed::Delete => Ok(media.delete(mxc).await?),
        Deed::Quarantine => match media.quarantine(mxc, &sweep.by).await {
            Ok(outcome) => Ok(outcome == Quarantined::Now),
            // An event can name what never existed here.
            Err(::media::MediaError::NotFound) => Ok(false),
            Err(error) => Err(error.into()),
        },
    }
}

fn count(media: &[Mxc]) -> u64 {
    u64::try_from(media.len()).unwrap_or(u64::MAX)
}

/// The job that sweeps.
pub(crate) struct SweepMedia;

impl JobKind for SweepMedia {
    const NAME: &'static str = "sweep-media";
    type Arguments = Sweep;
    type Cursor = Cursor;

    fn target(sweep: &Sweep) -> Option<String> {
        match &sweep.source {
            Source::User(user) => Some(user.to_string()),
            Source::Room(room) => Some(room.to_string()),
            Source::Unused { .. } => None,
        }
    }

    async fn step(admin: &Admin, sweep: &Sweep, mut cursor: Cursor) -> Result<Step<Cursor>, AdminError> {
        let done = step(admin, sweep, &mut cursor).await?;
        if sweep.names {
            let left = MAX_NAMED.saturating_sub(cursor.named.len());
            cursor.named.extend(done.iter().take(left).map(|mxc| mxc.media_id().to_owned()));
        }
        if cursor.is_finished {
            let mut result = json!({sweep.deed.word(): cursor.done, "bytes": cursor.bytes});
            if sweep.names {
                result["media"] = cursor.named.into();
            }
            return Ok(Step::Done(result));
        }
        let progress = Progress::new(format!("media {}", sweep.deed.word()), cursor.done, None);
        Ok(Step::More(cursor, progress))
    }
}

/// Starts the job, and says its number. For an operation.
///
/// # Errors
/// As [`crate::jobs::Jobs::start`].
pub(crate) async fn start(admin: &Admin, caller: &Caller, source: Source, deed: Deed) -> Result<Outcome, AdminError> {
    let sweep = Sweep { source, deed, by: caller.who.to_string(), names: false };
    Ok(admin.jobs().start::<SweepMedia>(caller, &sweep).await?.into())
}
