//! All of a user's data, for the user.

use ::rooms::{Event, RoomNid, RoomSeq};
use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use users::{Account, ReportFilter, StoredReport};

use crate::admin::Admin;
use crate::arguments::{RoomArg, UserArg};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::Outcome;

/// The largest export, in bytes: it is made in memory.
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Rows that are read at a time.
const PAGE: usize = 500;

/// Export all data of a user as one file of JSON lines
///
/// Account, profile, account data, devices, pushers, rooms, messages, media and reports: one JSON object a line, each
/// with its `kind`. Encrypted messages are exported as they are: only the user's devices have the keys. An export has at
/// most 64 MiB; of an account with more, export single rooms.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// Whose account
    pub user: UserArg,
    /// Only what belongs to these rooms
    #[arg(long = "room")]
    #[serde(default)]
    pub rooms: Vec<RoomArg>,
}

impl Operation for Export {
    const NAME: (&'static str, &'static str) = ("user", "export");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{user}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = self.user.account(admin)?;
        let mut lines = Lines::default();
        let only: Vec<RoomNid> =
            self.rooms.iter().map(|room| Ok(room.known_room(admin)?.0)).collect::<Result<_, AdminError>>()?;
        if only.is_empty() {
            write_account(admin, &account, &mut lines)?;
            write_devices(admin, &account, &mut lines)?;
            write_media(admin, &account, &mut lines)?;
            write_reports(admin, &account, &mut lines)?;
        }
        let mut rooms = admin.rooms().user_rooms(account.user)?.as_ref().clone();
        rooms.retain(|room, _| only.is_empty() || only.contains(room));
        for (index, (room, row)) in rooms.iter().enumerate() {
            let room_id = admin.rooms().room_id(*room)?;
            lines.write("room", json!({"room_id": room_id, "membership": row.membership.as_str()}))?;
            for data in admin.users().all_room_account_data(account.user, *room)? {
                let line = json!({"room_id": room_id, "type": data.kind, "content": data.content});
                lines.write("room_account_data", line)?;
            }
            write_events(admin, &account, *room, room_id.as_str(), &mut lines).await?;
            caller.progress(format!("{} of {} rooms", index + 1, rooms.len()));
        }
        let name = format!("{}.jsonl", account.user_id.localpart().replace(['/', '\\'], "_"));
        Ok(Outcome::file(name, "application/jsonl", lines.0))
    }
}

/// The file as it grows.
#[derive(Default)]
struct Lines(Vec<u8>);

impl Lines {
    fn write(&mut self, kind: &str, value: Value) -> Result<(), AdminError> {
        let mut line = Map::from_iter([("kind".to_owned(), Value::from(kind))]);
        if let Value::Object(fields) = value {
            line.extend(fields);
        }
        let line = Value::Object(line).to_string();
        if self.0.len() + line.len() > MAX_BYTES {
            let message = "the export would be larger than 64 MiB: export single rooms with --room";
            return Err(AdminError::TooLarge(message.to_owned()));
        }
        self.0.extend_from_slice(line.as_bytes());
        self.0.push(b'\n');
        Ok(())
    }
}

fn write_account(admin: &Admin, account: &Account, lines: &mut Lines) -> Result<(), AdminError> {
    let users = admin.users();
    let facts = users.facts(account.user)?;
    let line = json!({
        "user_id": account.user_id,
        "created_ms": account.created_ms,
        "role": users.role(account.user)?.map(users::Role::as_str),
        "deactivated": account.is_deactivated,
        "type": facts.user_type,
        "expires_ms": facts.expires_at_ms,
        "third_party_ids": users.third_party_ids(account.user)?,
        "external_ids": users.external_ids(account.user)?,
    });
    lines.write("account", line)?;
    lines.write("profile", json!({"fields": users.profile(account.user)?}))?;
    for data in users.all_account_data(account.user)? {
        lines.write("account_data", json!({"type": data.kind, "content": data.content}))?;
    }
    Ok(())
}

fn write_devices(admin: &Admin, account: &Account, lines: &mut Lines) -> Result<(), AdminError> {
    for device in admin.users().devices(account.user)? {
        let line = json!({
            "device_id": &*device.device_id,
            "display_name": device.display_name,
            "last_seen_ms": device.last_seen_ms,
            "last_seen_ip": device.last_seen_ip,
            "last_seen_user_agent": device.last_seen_user_agent,
        });
        lines.write("device", line)?;
    }
    for pusher in admin.users().pushers(account.user)? {
        lines.write("pusher", serde_json::to_value(&pusher).map_err(AdminError::internal)?)?;
    }
    Ok(())
}

fn write_media(admin: &Admin, account: &Account, lines: &mut Lines) -> Result<(), AdminError> {
    let mut after: Option<(u64, String)> = None;
    loop {
        let from = after.as_ref().map(|(at, id)| (*at, id.as_str()));
        let page = admin.media().user_media_after(account.user_id.as_str(), from, PAGE)?;
        for (created_ms, mxc) in &page {
            lines.write("media", json!({"uri": mxc.to_string(), "created_ms": created_ms}))?;
        }
        match page.last() {
            Some((created_ms, mxc)) if page.len() == PAGE => after = Some((*created_ms, mxc.media_id().to_owned())),
            _ => return Ok(()),
        }
    }
}

/// What the user reported. Reports of others about the user are theirs.
fn write_reports(admin: &Admin, account: &Account, lines: &mut Lines) -> Result<(), AdminError> {
    let filter = ReportFilter { reporter: Some(account.user_id.to_string()), ..ReportFilter::default() };
    let mut from = 0;
    loop {
        let page = admin.users().list_reports(&filter, false, from, PAGE)?.items;
        from += page.len();
        for StoredReport { report, .. } in page.iter().filter(|stored| stored.report.reporter == account.user) {
            let room_id = report.room.map(|room| admin.rooms().room_id(room)).transpose()?;
            let line = json!({
                "room_id": room_id,
                "event_id": report.event_id,
                "user_id": report.user_id,
                "reason": report.reason,
                "at_ms": report.at_ms,
            });
            lines.write("report", line)?;
        }
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

/// The events that the user sent in a room, oldest first.
async fn write_events(
    admin: &Admin,
    account: &Account,
    room: RoomNid,
    room_id: &str,
    lines: &mut Lines,
) -> Result<(), AdminError> {
    let mut after = RoomSeq::MIN;
    loop {
        let page = admin.rooms().events_after(room, after, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = last.seq();
        for event in page.iter().filter(|event| event.sender_nid() == account.user && event.flags().is_visible()) {
            lines.write("event", describe(event, room_id))?;
        }
        if page.len() < PAGE {
            return Ok(());
        }
        // Others have their turn.
        tokio::task::yield_now().await;
    }
}

fn describe(event: &Event, room_id: &str) -> Value {
    json!({
        "room_id": room_id,
        "event_id": event.event_id(),
        "type": event.kind(),
        "state_key": event.state_key(),
        "origin_server_ts": event.origin_server_ts(),
        "content": event.content_as::<Value>().unwrap_or_default(),
    })
}
