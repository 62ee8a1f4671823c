//! Tables with a row for each day.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::read_range;
use crate::admin::Admin;
use crate::arguments::When;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};
use crate::statistics::DayFigures;

/// A column: its name, and what stands in it.
type Column = (&'static str, fn(&DayFigures) -> Cell);

async fn show(
    admin: &Admin,
    since: Option<When>,
    until: Option<When>,
    columns: &[Column],
) -> Result<Outcome, AdminError> {
    // So that today is as it is now.
    admin.statistics().sample().await?;
    let days = admin.statistics().days(read_range(admin, since, until))?;
    let names: Vec<&'static str> = ["day"].into_iter().chain(columns.iter().map(|(name, _)| *name)).collect();
    let row = |figures: &DayFigures| {
        let cells = columns.iter().map(|(_, cell)| cell(figures));
        [Cell::Day(figures.day)].into_iter().chain(cells).collect()
    };
    Ok(Outcome::table(&names, days.iter().map(row).collect()))
}

fn count(pair: Option<(u64, u64)>) -> Cell {
    Cell::or_none(pair, |(count, _)| Cell::number(count))
}

fn bytes(pair: Option<(u64, u64)>) -> Cell {
    Cell::or_none(pair, |(_, bytes)| Cell::Bytes(bytes))
}

fn media_bytes(day: &DayFigures) -> Option<u64> {
    Some(day.local_media?.1.saturating_add(day.remote_media?.1))
}

macro_rules! operations_by_day {
    ($($(#[$doc:meta])* $name:ident = $verb:literal: [$(($column:literal, $cell:expr)),+ $(,)?];)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The first day; 30 days ago if not given
            #[arg(long)]
            since: Option<When>,
            /// The last day; today if not given
            #[arg(long)]
            until: Option<When>,
        }

        impl Operation for $name {
            const NAME: (&'static str, &'static str) = ("stats", $verb);
            const NEEDS: Needs = Needs::Moderator;
            const EFFECT: Effect = Effect::Reads;
            const EXAMPLE: &'static str = "--since 7d";

            async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
                show(admin, self.since, self.until, &[$(($column, $cell)),+]).await
            }
        }
    )+};
}

operations_by_day! {
    /// Show how many users there were each day, how many were new, and how many were active: on it, and in the 30 days up
    /// to it
    Users = "users": [
        ("users", |day| Cell::or_none(day.users, Cell::number)),
        ("new", |day| Cell::number(day.new_users)),
        ("daily_active", |day| Cell::number(day.daily_active)),
        ("monthly_active", |day| Cell::number(day.monthly_active)),
    ];

    /// Show how many users and rooms there were each day, and how many users, rooms and events were new
    Growth = "growth": [
        ("users", |day| Cell::or_none(day.users, Cell::number)),
        ("new_users", |day| Cell::number(day.new_users)),
        ("rooms", |day| Cell::or_none(day.rooms, Cell::number)),
        ("new_rooms", |day| Cell::number(day.new_rooms)),
        ("events", |day| Cell::number(day.events)),
    ];

    /// Show how much media there were each day, and how much was uploaded and copied from other servers
    Media = "media": [
        ("uploaded", |day| Cell::number(day.stored.local.count)),
        ("uploaded_size", |day| Cell::Bytes(day.stored.local.bytes)),
        ("copied", |day| Cell::number(day.stored.remote.count)),
        ("copied_size", |day| Cell::Bytes(day.stored.remote.bytes)),
        ("local", |day| count(day.local_media)),
        ("local_size", |day| bytes(day.local_media)),
        ("remote", |day| count(day.remote_media)),
        ("remote_size", |day| bytes(day.remote_media)),
    ];

    /// Show how much was stored each day, beside the events that came
    Storage = "storage": [
        ("events", |day| Cell::number(day.events)),
        ("database", |day| Cell::or_none(day.database_bytes, Cell::Bytes)),
        ("media", |day| Cell::or_none(media_bytes(day), Cell::Bytes)),
        ("in_all", |day| Cell::or_none(
            day.database_bytes.and_then(|bytes| Some(bytes.saturating_add(media_bytes(day)?))),
            Cell::Bytes,
        )),
    ];
}
