//! What is in a room, whoever is in it.

use clap::Args;
use rooms::{Cursor, Direction, EventFormat, Membership, Renderer, RoomError, RoomNid};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spec::ids::EventId;

use crate::admin::Admin;
use crate::arguments::{RoomArg, Window};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// How many entries are shown unless it is said.
const DEFAULT_ENTRIES: usize = 50;
/// How many entries are shown at most.
const MAX_ENTRIES: usize = 1000;

/// Show the current state of a room
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The room: its id or an alias
    pub room: RoomArg,
    /// Only events of this type
    #[arg(id = "type", long)]
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
}

impl Operation for State {
    const NAME: (&'static str, &'static str) = ("room", "state");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{room}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (room, _) = self.room.known_room(admin)?;
        let mut rows = Vec::new();
        for event in admin.rooms().as_operator(room)?.state_events()? {
            if self.kind.as_deref().is_none_or(|kind| kind == event.kind()) {
                rows.push(vec![
                    Cell::text(event.kind()),
                    Cell::text(event.state_key().unwrap_or_default()),
                    Cell::text(event.sender()),
                    Cell::Time(u64::try_from(event.origin_server_ts()).unwrap_or(0)),
                    Cell::text(event.event_id()),
                    Cell::text(event.content()),
                ]);
            }
        }
        Ok(Outcome::table(&["type", "state_key", "sender", "sent", "event", "content"], rows))
    }
}

/// List the members of a room
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Members {
    /// The room: its id or an alias
    pub room: RoomArg,
    /// Those with this membership instead of those who are joined: invite, knock, leave, ban
    #[arg(long)]
    #[serde(default)]
    pub membership: Option<String>,
    /// How many members to skip
    #[arg(long)]
    #[serde(default)]
    pub from: Option<usize>,
    /// How many members to show, at most 1,000
    #[arg(long)]
    #[serde(default)]
    pub limit: Option<usize>,
}

impl Operation for Members {
    const NAME: (&'static str, &'static str) = ("room", "members");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{room}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (room, _) = self.room.known_room(admin)?;
        let wanted = match &self.membership {
            Some(text) => Membership::parse(text)
                .ok_or_else(|| AdminError::invalid("a membership is join, invite, knock, leave or ban"))?,
            None => Membership::Join,
        };
        let rooms = admin.rooms();
        let members = rooms.members(room)?;
        let fitting: Vec<_> = members.into_iter().filter(|(_, membership, _)| *membership == wanted).collect();
        let window = Window::new(self.from, self.limit, DEFAULT_ENTRIES, MAX_ENTRIES);
        let mut rows = Vec::new();
        for (user, _, seq) in fitting.iter().skip(window.skip).take(window.limit) {
            let event = rooms.event_at(room, *seq)?;
            let content: Value = event.content_as().unwrap_or_default();
            rows.push(vec![
                Cell::text(rooms.user_id(*user)?),
                Cell::or_none(content.get("displayname").and_then(Value::as_str), Cell::text),
                Cell::Time(u64::try_from(event.origin_server_ts()).unwrap_or(0)),
                Cell::or_none(content.get("reason").and_then(Value::as_str), Cell::text),
            ]);
        }
        let next = window.next(rows.len(), fitting.len());
        let columns = ["user", "display_name", "since", "reason"];
        Ok(Outcome::table(&columns, rows).next(next).total(fitting.len() as u64))
    }
}

/// Show the newest messages and other events of a room
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Messages {
    /// The room: its id or an alias
    pub room: RoomArg,
    /// Where to go on, as the page before says
    #[arg(long)]
    #[serde(default)]
    pub from: Option<String>,
    /// How many events to show, at most 1,000
    #[arg(long)]
    #[serde(default)]
    pub limit: Option<usize>,
}

impl Operation for Messages {
    const NAME: (&'static str, &'static str) = ("room", "messages");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{room} --limit 5";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (room, _) = self.room.known_room(admin)?;
        let view = admin.rooms().as_operator(room)?;
        let from: Cursor = match &self.from {
            Some(from) => from.parse()?,
            None => view.newest()?,
        };
        let limit = self.limit.unwrap_or(DEFAULT_ENTRIES).clamp(1, MAX_ENTRIES);
        let page = view.page(from, None, Direction::Backward, limit, &|_| true)?;
        let rows = page.events.iter().map(|event| {
            let content: Value = event.content_as().unwrap_or_default();
            let body =
                content.get("body").and_then(Value::as_str).map_or_else(|| event.content().to_owned(), str::to_owned);
            vec![
                Cell::Time(u64::try_from(event.origin_server_ts()).unwrap_or(0)),
                Cell::text(event.sender()),
                Cell::text(event.kind()),
                Cell::text(body),
                Cell::text(event.event_id()),
            ]
        });
        Ok(Outcome::table(&["sent", "sender", "type", "text", "event"], rows.collect()).next(page.end))
    }
}

/// Show an event by its id, with all that is stored of it
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The id of the event
    pub event: String,
}

impl Operation for Event {
    const NAME: (&'static str, &'static str) = ("room", "event");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{event}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (_, event) = find_event(admin, &self.event)?;
        let flags = event.flags();
        Ok(Outcome::record(vec![
            ("event", Cell::text(event.event_id())),
            ("room", Cell::text(admin.rooms().room_id(event.room())?)),
            ("type", Cell::text(event.kind())),
            ("state_key", Cell::or_none(event.state_key(), Cell::text)),
            ("sender", Cell::text(event.sender())),
            ("sent", Cell::Time(u64::try_from(event.origin_server_ts()).unwrap_or(0))),
            ("depth", Cell::number(event.depth())),
            ("rejected", Cell::Flag(flags.has(rooms::EventFlags::REJECTED))),
            ("soft_failed", Cell::Flag(flags.has(rooms::EventFlags::SOFT_FAILED))),
            ("redacted", Cell::Flag(flags.has(rooms::EventFlags::REDACTED))),
            ("in_timeline", Cell::Flag(flags.is_visible())),
            ("pdu", Cell::text(event.json())),
        ]))
    }
}

/// An event by its id, whoever may see it.
pub(crate) fn find_event(admin: &Admin, id: &str) -> Result<(RoomNid, rooms::Event), AdminError> {
    let id = EventId::parse(id).map_err(|error| AdminError::invalid(format!("this is no event id: {error}")))?;
    let rooms = admin.rooms();
    let room = rooms.room_of_event(&id)?.ok_or(RoomError::EventNotFound)?;
    let event = rooms.find_in_room(room, id.as_str())?.ok_or(RoomError::EventNotFound)?;
    Ok((room, event))
}

/// Events in the form of the client API.
pub(crate) fn render(view: &rooms::RoomView, events: &[rooms::Event]) -> Result<Vec<Value>, AdminError> {
    let mut out = Vec::new();
    Renderer::new(view, None, EventFormat::Client).render_all(events, &mut out)?;
    serde_json::from_slice(&out).map_err(AdminError::internal)
}
