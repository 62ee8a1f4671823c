//! Events, told apart by day, room, type and origin.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::read_range;
use crate::admin::Admin;
use crate::arguments::{RoomArg, When};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};
use crate::statistics::{Dimension, MessageCount};

/// How many rows an answer has if nobody says, and at most.
const USUAL_ROWS: usize = 100;
const MAX_ROWS: usize = 1000;

/// Count events: by day, room, type, or origin
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Messages {
    /// The first day; 30 days ago if not given
    #[arg(long)]
    since: Option<When>,
    /// The last day; today if not given
    #[arg(long)]
    until: Option<When>,
    /// Of one room only
    #[arg(long)]
    room: Option<RoomArg>,
    /// What to tell apart, also several: day, room, type, origin
    #[arg(long, value_enum, value_delimiter = ',')]
    #[serde(default)]
    by: Vec<Dimension>,
    /// How many rows, those with most events; 100 if not given, at most 1000
    #[arg(long)]
    limit: Option<usize>,
}

/// Show the rooms with most events
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rooms {
    /// The first day; 30 days ago if not given
    #[arg(long)]
    since: Option<When>,
    /// The last day; today if not given
    #[arg(long)]
    until: Option<When>,
    /// How many rooms; 100 if not given, at most 1000
    #[arg(long)]
    limit: Option<usize>,
}

fn read_limit(limit: Option<usize>) -> usize {
    limit.unwrap_or(USUAL_ROWS).clamp(1, MAX_ROWS)
}

/// What is shown of a count, in the order of the columns.
const COLUMNS: [(Dimension, &str); 4] =
    [(Dimension::Day, "day"), (Dimension::Room, "room"), (Dimension::Type, "type"), (Dimension::Origin, "origin")];

fn describe(admin: &Admin, count: &MessageCount, dimension: Dimension) -> Result<Cell, AdminError> {
    Ok(match dimension {
        Dimension::Day => Cell::or_none(count.day, Cell::Day),
        Dimension::Room => {
            let room = count.room.map(|room| admin.statistics().room_id(room)).transpose()?;
            Cell::or_none(room.flatten(), Cell::Text)
        }
        Dimension::Type => Cell::or_none(count.kind.as_ref(), Cell::text),
        Dimension::Origin => Cell::or_none(count.is_local, |is_local| if is_local { "local" } else { "remote" }.into()),
    })
}

impl Operation for Messages {
    const NAME: (&'static str, &'static str) = ("stats", "messages");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--since 7d --by day,type";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let range = read_range(admin, self.since, self.until);
        let room = self.room.map(|room| room.known_room(admin)).transpose()?.map(|(nid, _)| nid);
        let mut counts = admin.statistics().messages(range, room, &self.by)?;
        let total = counts.len() as u64;
        // With days, in their order; else the largest first.
        if !self.by.contains(&Dimension::Day) {
            counts.sort_by_key(|count| std::cmp::Reverse(count.count));
        }
        counts.truncate(read_limit(self.limit));
        let shown: Vec<_> = COLUMNS.into_iter().filter(|(dimension, _)| self.by.contains(dimension)).collect();
        let names: Vec<&'static str> = shown.iter().map(|(_, name)| *name).chain(["events"]).collect();
        let mut rows = Vec::with_capacity(counts.len());
        for count in counts {
            let cells = shown.iter().map(|(dimension, _)| describe(admin, &count, *dimension));
            let mut row = cells.collect::<Result<Vec<Cell>, _>>()?;
            row.push(Cell::number(count.count));
            rows.push(row);
        }
        Ok(Outcome::table(&names, rows).total(total))
    }
}

impl Operation for Rooms {
    const NAME: (&'static str, &'static str) = ("stats", "rooms");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--limit 10";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let range = read_range(admin, self.since, self.until);
        let mut rows = Vec::new();
        for count in admin.statistics().messages(range, None, &[Dimension::Room])? {
            // Old days are known of all rooms together, and deleted rooms are not known any more.
            let Some(room) = count.room else { continue };
            let Some(head) = admin.statistics().head_of(room)? else { continue };
            rows.push((count.count, head));
        }
        rows.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        let total = rows.len() as u64;
        let cells = rows.into_iter().take(read_limit(self.limit)).map(|(count, head)| {
            vec![Cell::text(head.room_id()), Cell::number(head.joined_count()), Cell::number(count)]
        });
        Ok(Outcome::table(&["room", "joined", "events"], cells.collect()).total(total))
    }
}
