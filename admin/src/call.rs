//! Calls: those that go on, and those that were.

use ::calls::{LegStatistics, MuteScope, PastLeg, RingOutcome};
use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::arguments::{RoomArg, UserArg, When};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// How many rows an answer has if nobody says, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 500;

/// List the calls that go on
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {}

impl Operation for List {
    const NAME: (&'static str, &'static str) = ("call", "list");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let rows = admin.calls().overview()?.into_iter().map(|call| {
            let users = call.legs.iter().map(|leg| Cell::text(&leg.user)).collect();
            vec![Cell::text(call.room), Cell::Text(call.slot), Cell::Time(call.since_ms), Cell::List(users)]
        });
        Ok(Outcome::table(&["room", "slot", "since", "users"], rows.collect()))
    }
}

/// List who was in calls that have ended, the last first, and how well it went
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// Of one room only
    #[arg(long)]
    pub room: Option<RoomArg>,
    /// Only what ended before this
    #[arg(long)]
    pub before: Option<When>,
    /// How many at most [default: 50]
    #[arg(long)]
    pub limit: Option<usize>,
}

impl Operation for History {
    const NAME: (&'static str, &'static str) = ("call", "history");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--room {room} --limit 10";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let room = self.room.map(|room| room.known_room(admin)).transpose()?.map(|(room, _)| room);
        let legs = admin.calls().history(room, read_end(admin, self.before), read_limit(self.limit))?;
        let row = |leg: PastLeg| {
            let LegStatistics { transport, rtt_ms, loss_up_permille, loss_down_permille, .. } = leg.statistics;
            vec![
                Cell::text(leg.room),
                Cell::text(leg.user),
                Cell::or_none(leg.device, Cell::Text),
                Cell::Time(leg.joined_ms),
                Cell::Time(leg.left_ms),
                Cell::Text(transport),
                Cell::or_none(rtt_ms, Cell::number),
                Cell::number(loss_up_permille),
                Cell::number(loss_down_permille),
            ]
        };
        let columns = [
            "room",
            "user",
            "device",
            "joined",
            "left",
            "transport",
            "round_trip_ms",
            "loss_up_permille",
            "loss_down_permille",
        ];
        Ok(Outcome::table(&columns, legs.into_iter().map(row).collect()))
    }
}

/// List calls that rang, the last first, and who answered them
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rings {
    /// In one room only
    #[arg(long)]
    pub room: Option<RoomArg>,
    /// For one user of this server only
    #[arg(long)]
    pub user: Option<UserArg>,
    /// Only those that ended before this
    #[arg(long)]
    pub before: Option<When>,
    /// How many at most [default: 50]
    #[arg(long)]
    pub limit: Option<usize>,
}

impl Operation for Rings {
    const NAME: (&'static str, &'static str) = ("call", "rings");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--user {user} --limit 10";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let room = self.room.map(|room| room.known_room(admin)).transpose()?.map(|(room, _)| room);
        let callee = self.user.map(|user| user.account(admin)).transpose()?.map(|account| account.user);
        let rings = admin.calls().rings(room, callee, read_end(admin, self.before), read_limit(self.limit))?;
        let rows = rings.into_iter().map(|ring| {
            let of = |wanted: RingOutcome| {
                let users = ring.callees.iter().filter(|(_, outcome)| *outcome == wanted);
                Cell::List(users.map(|(user, _)| Cell::text(user)).collect())
            };
            let outcomes = [of(RingOutcome::Answered), of(RingOutcome::Declined), of(RingOutcome::Missed)];
            let mut row = vec![
                Cell::text(&ring.room),
                Cell::text(&ring.caller),
                Cell::Time(ring.rang_ms),
                Cell::Time(ring.ended_ms),
            ];
            row.extend(outcomes);
            row
        });
        let columns = ["room", "caller", "rang", "ended", "answered", "declined", "missed"];
        Ok(Outcome::table(&columns, rows.collect()))
    }
}

/// Show who is in the calls of a room, and how it goes for them
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Participants {
    /// The room
    pub room: RoomArg,
}

impl Operation for Participants {
    const NAME: (&'static str, &'static str) = ("call", "participants");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{room}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (_, room) = self.room.known_room(admin)?;
        let rows = admin.calls().participants(&room)?.into_iter().map(|participant| {
            let mut row = vec![
                Cell::text(participant.user),
                Cell::or_none(participant.device, Cell::Text),
                Cell::Text(participant.slot),
                Cell::Time(participant.since_ms),
            ];
            match participant.live {
                Some(live) => {
                    let tracks = live.tracks.iter().map(|track| match track.muted {
                        true => Cell::Text(format!("{} (muted)", track.source)),
                        false => Cell::text(&track.source),
                    });
                    row.extend([
                        Cell::Text(live.statistics.transport),
                        Cell::or_none(live.statistics.rtt_ms, Cell::number),
                        Cell::number(live.bitrate_up),
                        Cell::number(live.bitrate_down),
                        Cell::List(tracks.collect()),
                    ]);
                }
                None => row.extend([Cell::None, Cell::None, Cell::None, Cell::None, Cell::None]),
            }
            row
        });
        let columns = [
            "user",
            "device",
            "slot",
            "since",
            "transport",
            "round_trip_ms",
            "bits_per_second_up",
            "bits_per_second_down",
            "tracks",
        ];
        Ok(Outcome::table(&columns, rows.collect()))
    }
}

/// Put a user out of the calls of a room, on all devices
///
/// Whoever is still a member of the room can come back: to keep somebody out, remove them from the room.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// The room
    pub room: RoomArg,
    /// Who, also of another server
    pub user: UserArg,
}

impl Operation for Remove {
    const NAME: (&'static str, &'static str) = ("call", "remove");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{room} {user}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (_, room) = self.room.known_room(admin)?;
        let ended = admin.calls().remove_participant(&room, &self.user.user_id(admin)?).await?;
        Ok(Outcome::record(vec![("participations_ended", Cell::number(ended))]))
    }
}

/// What of a participant is muted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Muted {
    /// Everything
    #[default]
    All,
    /// Microphones and the sound of shared screens
    Sound,
    /// Cameras and shared screens
    Pictures,
}

/// Mute what a user sends in the calls of a room; only they can unmute it
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mute {
    /// The room
    pub room: RoomArg,
    /// Who, also of another server
    pub user: UserArg,
    /// What [default: all]
    #[arg(long, value_enum)]
    pub what: Option<Muted>,
}

impl Operation for Mute {
    const NAME: (&'static str, &'static str) = ("call", "mute");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{room} {user} --what sound";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (_, room) = self.room.known_room(admin)?;
        let scope = match self.what.unwrap_or_default() {
            Muted::All => MuteScope::All,
            Muted::Sound => MuteScope::Sound,
            Muted::Pictures => MuteScope::Pictures,
        };
        let muted = admin.calls().mute_participant(&room, &self.user.user_id(admin)?, scope)?;
        Ok(Outcome::record(vec![("tracks_muted", Cell::number(muted))]))
    }
}

fn read_end(admin: &Admin, before: Option<When>) -> u64 {
    // What ends in this very millisecond has ended.
    before.map_or(u64::MAX, |before| before.in_the_past(admin.clock().now_ms()))
}

fn read_limit(limit: Option<usize>) -> usize {
    limit.unwrap_or(PAGE).clamp(1, MAX_PAGE)
}
