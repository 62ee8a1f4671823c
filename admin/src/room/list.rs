//! All rooms, and one of them.

use clap::Args;
use rooms::{RoomOrder, RoomOverview, RoomsQuery};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::Admin;
use crate::arguments::{RoomArg, Window};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// How many rooms are shown unless it is said.
const DEFAULT_ROOMS: usize = 50;
/// How many rooms are shown at most.
const MAX_ROOMS: usize = 1000;

/// List the rooms that this server knows
#[derive(Debug, Default, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Only rooms whose name, alias or id has this in it
    #[arg(long)]
    #[serde(default)]
    pub search: Option<String>,
    /// By what they are sorted: name, canonical_alias, joined_members, joined_local_members, version, creator, encryption,
    /// federatable, public, join_rules, guest_access, history_visibility or state_events
    #[arg(long, value_parser = RoomOrder::ALL.map(|(name, _)| name))]
    #[serde(default)]
    pub order: Option<String>,
    /// The other way round
    #[arg(long)]
    #[serde(default)]
    pub reverse: bool,
    /// Only rooms that are (true), or are not (false), in the list of public rooms
    #[arg(long)]
    #[serde(default)]
    pub public: Option<bool>,
    /// Only rooms in which nobody (true), or somebody (false), of this server is
    #[arg(long)]
    #[serde(default)]
    pub empty: Option<bool>,
    /// Only spaces (true), or only what is none (false)
    #[arg(long)]
    #[serde(default)]
    pub space: Option<bool>,
    /// Only rooms that are (true), or are not (false), blocked
    #[arg(long)]
    #[serde(default)]
    pub blocked: Option<bool>,
    /// How many rooms to skip
    #[arg(long)]
    #[serde(default)]
    pub from: Option<usize>,
    /// How many rooms to show, at most 1,000
    #[arg(long)]
    #[serde(default)]
    pub limit: Option<usize>,
}

impl Operation for List {
    const NAME: (&'static str, &'static str) = ("room", "list");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "--order joined_members --limit 10";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let window = Window::new(self.from, self.limit, DEFAULT_ROOMS, MAX_ROOMS);
        let List { search, order, reverse, public, empty, space, blocked, .. } = self;
        let order = match &order {
            Some(name) => RoomOrder::parse(name)
                .ok_or_else(|| AdminError::invalid(format!("rooms are not sorted by {name:?}")))?,
            None => RoomOrder::default(),
        };
        let query = RoomsQuery {
            search,
            public,
            empty,
            space,
            blocked,
            order,
            reverse,
            skip: window.skip,
            limit: window.limit,
        };
        let rooms = admin.rooms().clone();
        let page = admin.tasks().compute("list of rooms", move || rooms.list_rooms(&query)).await;
        let page = page.map_err(AdminError::internal)??;
        let next = window.next(page.rooms.len(), page.total);
        let rows = page.rooms.iter().map(|room| {
            vec![
                Cell::text(&room.room_id),
                Cell::or_none(room.name.as_ref(), Cell::text),
                Cell::or_none(room.canonical_alias.as_ref(), Cell::text),
                Cell::number(room.joined_members),
                Cell::number(room.joined_local_members),
                Cell::text(&room.version),
                Cell::Flag(room.public),
                Cell::Flag(room.encryption.is_some()),
                Cell::number(room.state_events as u64),
            ]
        });
        let columns =
            ["room", "name", "alias", "members", "local_members", "version", "public", "encrypted", "state_events"];
        Ok(Outcome::table(&columns, rows.collect()).next(next).total(page.total as u64))
    }
}

/// Show what there is to say of a room
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Show {
    /// The room: its id or an alias
    pub room: RoomArg,
}

impl Operation for Show {
    const NAME: (&'static str, &'static str) = ("room", "show");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{room}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (room, room_id) = self.room.known_room(admin)?;
        let rooms = admin.rooms();
        let overview = rooms.overview(room)?;
        let mut fields = describe(&overview);
        let aliases = rooms.aliases(room)?.into_iter().map(Cell::Text).collect();
        let block = rooms.blocked(&room_id)?;
        fields.push(("aliases", Cell::List(aliases)));
        fields.push(("blocked", Cell::Flag(block.is_some())));
        fields.push(("blocked_by", Cell::or_none(block.and_then(|block| block.by), Cell::Text)));
        fields.push(("size", Cell::Bytes(rooms.size_of_room(room)?)));
        Ok(Outcome::record(fields))
    }
}

fn describe(room: &RoomOverview) -> Vec<(&'static str, Cell)> {
    let text = |text: &Option<String>| Cell::or_none(text.as_ref(), Cell::text);
    vec![
        ("room", Cell::text(&room.room_id)),
        ("name", text(&room.name)),
        ("topic", text(&room.topic)),
        ("avatar", text(&room.avatar)),
        ("alias", text(&room.canonical_alias)),
        ("members", Cell::number(room.joined_members)),
        ("local_members", Cell::number(room.joined_local_members)),
        ("version", Cell::text(&room.version)),
        ("creator", text(&room.creator)),
        ("type", text(&room.room_type)),
        ("encryption", text(&room.encryption)),
        ("federatable", Cell::Flag(room.federatable)),
        ("public", Cell::Flag(room.public)),
        ("join_rules", text(&room.join_rules)),
        ("guest_access", text(&room.guest_access)),
        ("history_visibility", text(&room.history_visibility)),
        ("state_events", Cell::number(room.state_events as u64)),
        ("forward_extremities", Cell::number(room.forward_extremities as u64)),
        ("replaced", Cell::Flag(room.tombstoned)),
    ]
}
