//! How long the messages of a room are kept.

use clap::Args;
use rooms::{Draft, RetentionSource, RoomError};
use runtime::config::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::admin::Admin;
use crate::arguments::RoomArg;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// Show how long the messages of a room are kept, and why
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// The room: its id or an alias
    pub room: RoomArg,
}

/// Decide how long the messages of a room are kept
///
/// On this server, whatever the room says and whatever the limits of the configuration are. Messages that are older are
/// deleted for good. With --in-room it is said in the room instead, by the most powerful member of this server: then the
/// limits hold, and other servers may follow.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRetention {
    /// The room: its id or an alias
    pub room: RoomArg,
    /// How long: 12h, 30d
    #[arg(long, conflicts_with_all = ["forever", "reset"])]
    #[serde(default)]
    pub lifetime: Option<String>,
    /// For ever
    #[arg(long, conflicts_with = "reset")]
    #[serde(default)]
    pub forever: bool,
    /// As the room and the configuration say
    #[arg(long)]
    #[serde(default)]
    pub reset: bool,
    /// Say it in the room
    #[arg(long)]
    #[serde(default)]
    pub in_room: bool,
}

impl Operation for Retention {
    const NAME: (&'static str, &'static str) = ("room", "retention");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{room}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (room, room_id) = self.room.known_room(admin)?;
        let (found, config) = (admin.rooms().retention(room)?, admin.rooms().retention_config());
        let because = match found.source {
            RetentionSource::Off => "retention.enabled is off: messages do not expire on this server",
            RetentionSource::Administrator => "an administrator decided it",
            RetentionSource::Room => "the room says so, within the limits",
            RetentionSource::Default => "the room says nothing: the default of this server",
        };
        Ok(Outcome::record(vec![
            ("room", Cell::text(room_id)),
            ("lifetime", or_forever(found.lifetime_ms)),
            ("because", because.into()),
            ("decided", Cell::or_none(found.decided_ms, |ms| or_forever(Some(ms)))),
            ("room_wants", Cell::or_none(found.wanted_ms, |ms| or_forever(Some(ms)))),
            ("default", or_forever(Some(ms_of(config.default_max_lifetime)))),
            ("allowed_min", Cell::text(config.allowed_min_lifetime)),
            ("allowed_max", or_forever(Some(ms_of(config.allowed_max_lifetime)))),
        ]))
    }
}

impl Operation for SetRetention {
    const NAME: (&'static str, &'static str) = ("room", "set-retention");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{room} --lifetime 30d";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (room, room_id) = self.room.known_room(admin)?;
        let lifetime_ms = match (&self.lifetime, self.forever, self.reset) {
            (Some(text), false, false) => Some(read_lifetime(text)?),
            (None, true, false) => Some(0),
            (None, false, true) => None,
            _ => return Err(AdminError::invalid("say one of --lifetime, --forever and --reset")),
        };
        if self.in_room {
            let by = admin.rooms().most_powerful_local(room)?;
            let by = by.ok_or(RoomError::Refused("nobody of this server has the power in this room"))?;
            let wanted = lifetime_ms.filter(|lifetime| *lifetime > 0);
            let content: Map<_, _> = wanted.map(|ms| ("max_lifetime".to_owned(), ms.into())).into_iter().collect();
            admin.rooms().append(room, vec![Draft::state(by, "m.room.retention", "", content)], None).await?;
        } else {
            admin.rooms().set_retention(room, lifetime_ms).await?;
        }
        let found = admin.rooms().retention(room)?;
        let kept = match (found.source, found.lifetime_ms) {
            (RetentionSource::Off, _) => "for ever, as retention.enabled is off".to_owned(),
            (_, lifetime) => or_forever(lifetime).to_text(),
        };
        Ok(Outcome::line(format!("Messages of {room_id} are kept: {kept}.")))
    }
}

fn read_lifetime(text: &str) -> Result<u64, AdminError> {
    let span = text.parse::<Span>().map_err(|error| AdminError::invalid(format!("--lifetime: {error}")))?;
    match ms_of(span) {
        0 => Err(AdminError::invalid("messages are kept for some time: to keep them for ever, say --forever")),
        lifetime => Ok(lifetime),
    }
}

fn ms_of(span: Span) -> u64 {
    u64::try_from(span.duration().as_millis()).unwrap_or(u64::MAX)
}

/// A lifetime in milliseconds, where none and 0 mean that messages never expire.
fn or_forever(lifetime_ms: Option<u64>) -> Cell {
    match lifetime_ms {
        None | Some(0) => "for ever".into(),
        Some(ms) => Cell::text(Span::seconds(ms / 1000)),
    }
}
