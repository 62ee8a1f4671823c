//! Lists of media.

use ::media::{MediaOrder, MediaRecord, Mxc};
use clap::{Args, ValueEnum};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::in_room::all_media;
use crate::admin::Admin;
use crate::arguments::{RoomArg, UserArg};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 1000;

/// By what a list of a user's media is ordered
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// When it was uploaded
    Created,
    /// When it was last asked for
    LastAccess,
    /// How large it is
    Size,
    /// The file name
    Name,
    /// The content type
    Type,
}

impl From<Order> for MediaOrder {
    fn from(order: Order) -> MediaOrder {
        match order {
            Order::Created => MediaOrder::Created,
            Order::LastAccess => MediaOrder::LastAccess,
            Order::Size => MediaOrder::Length,
            Order::Name => MediaOrder::FileName,
            Order::Type => MediaOrder::ContentType,
        }
    }
}

/// List media: of a user, of a room, or all that are here
///
/// Of a room those are listed that its unencrypted events name.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only what this user has uploaded
    #[arg(long, conflicts_with = "room")]
    pub user: Option<UserArg>,
    /// Only what events of this room name
    #[arg(long)]
    pub room: Option<RoomArg>,
    /// By what to order the media of a user; newest first if nothing is said
    #[arg(long)]
    pub order: Option<Order>,
    /// The other way round: smallest, oldest or alphabetically first
    #[arg(long)]
    #[serde(default)]
    pub ascending: bool,
    /// How many to show, at most 1000
    #[arg(long)]
    pub limit: Option<usize>,
    /// Where to go on, as the page before says it
    #[arg(long)]
    pub from: Option<String>,
}

const COLUMNS: [&str; 8] =
    ["media", "uploader", "created", "last_access", "bytes", "content_type", "file_name", "quarantined"];

fn row(record: MediaRecord) -> Vec<Cell> {
    let text = |text| Cell::or_none(text, Cell::Text);
    let (length, mime, name) = match record.content {
        Some(content) => (Cell::Bytes(content.length), text(content.content_type), text(content.file_name)),
        None => (Cell::None, Cell::None, Cell::None),
    };
    vec![
        Cell::text(&record.mxc),
        text(record.uploader),
        Cell::Time(record.created_ms),
        Cell::or_none(record.last_access_ms, Cell::Time),
        length,
        mime,
        name,
        (record.quarantined_by.is_some() || record.is_hidden_by_content).into(),
    ]
}

impl List {
    fn offset(&self) -> Result<usize, AdminError> {
        let from = self.from.as_deref().unwrap_or("0");
        from.parse().map_err(|_| AdminError::invalid("--from is what the page before says as next"))
    }

    fn list_user(&self, admin: &Admin, user: &UserArg, limit: usize) -> Result<Outcome, AdminError> {
        let (user_id, from) = (user.account(admin)?.user_id, self.offset()?);
        let order = self.order.map_or(MediaOrder::Created, MediaOrder::from);
        let page = admin.media().user_media(user_id.as_str(), order, !self.ascending, from, limit)?;
        let next = from.saturating_add(page.items.len());
        let has_more = u64::try_from(next).is_ok_and(|next| next < page.total) && !page.items.is_empty();
        let rows = page.items.into_iter().map(row).collect();
        Ok(Outcome::table(&COLUMNS, rows).next(has_more.then_some(next)).total(page.total))
    }

    async fn list_room(&self, admin: &Admin, room: &RoomArg, limit: usize) -> Result<Outcome, AdminError> {
        let (room, from) = (room.known_room(admin)?.0, self.offset()?);
        let found = all_media(admin.rooms(), room).await?;
        let total = found.len();
        let mut rows = Vec::new();
        for mxc in found.into_iter().skip(from).take(limit) {
            rows.push(match admin.media().describe(&mxc) {
                Ok(record) => row(record),
                // Remote media that nobody here has asked for.
                Err(::media::MediaError::NotFound) => unknown(admin, &mxc)?,
                Err(error) => return Err(error.into()),
            });
        }
        let next = from.saturating_add(rows.len());
        let next = (next < total && !rows.is_empty()).then_some(next);
        Ok(Outcome::table(&COLUMNS, rows).next(next).total(u64::try_from(total).unwrap_or(u64::MAX)))
    }

    fn list_all(&self, admin: &Admin, limit: usize) -> Result<Outcome, AdminError> {
        let after = match &self.from {
            None => None,
            Some(from) => {
                Some(Mxc::parse(from).map_err(|_| AdminError::invalid("--from is the last media of the page before"))?)
            }
        };
        let page = admin.media().media_after(after.as_ref(), limit)?;
        let next = page.last().filter(|_| page.len() == limit).map(|record| record.mxc.clone());
        Ok(Outcome::table(&COLUMNS, page.into_iter().map(row).collect()).next(next))
    }
}

fn unknown(admin: &Admin, mxc: &Mxc) -> Result<Vec<Cell>, AdminError> {
    let mut cells = vec![Cell::None; COLUMNS.len()];
    let quarantined = admin.media().quarantined_by(mxc)?.is_some();
    if let [first, .., last] = cells.as_mut_slice() {
        (*first, *last) = (Cell::text(mxc), quarantined.into());
    }
    Ok(cells)
}

impl Operation for List {
    const NAME: (&'static str, &'static str) = ("media", "list");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--user {user} --order size --limit 10";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let limit = self.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT);
        match (&self.user, &self.room) {
            (Some(_), Some(_)) => Err(AdminError::invalid("name a user or a room, not both")),
            (Some(user), None) => self.list_user(admin, user, limit),
            (None, Some(room)) => self.list_room(admin, room, limit).await,
            (None, None) => self.list_all(admin, limit),
        }
    }
}
