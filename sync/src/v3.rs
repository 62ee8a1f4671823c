//! Classic sync: `GET /_matrix/client/v3/sync` (Client-Server API §Syncing).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rooms::{Departure, Membership, RoomNid, TOPIC_MEMBERSHIP, UserRoom};
use spec::ids::UserId;
use storage::{StreamPos, Topic};
use users::{Presence, PresenceState, QueuedMessages, Session, device_topic};

use crate::account_data::AccountDataChanges;
use crate::device_lists::DeviceLists;
use crate::error::SyncError;
use crate::feed::RoomChanges;
use crate::filter::Filter;
use crate::invites::HiddenInvites;
use crate::json::{Array, Object, write_typed};
use crate::meters::Form;
use crate::profiles::{Profiles, Wanted};
use crate::sync::{Found, Inner, Rows, Sync};
use crate::to_device::MESSAGES;
use crate::token::SyncToken;

mod joined;
mod left;

/// A request, read and checked by the edge.
#[derive(Clone, Debug)]
pub struct V3Request {
    /// Where the client stands; absent for an initial sync.
    pub since: Option<SyncToken>,
    /// What it wants; [`Filter::default`] for everything.
    pub filter: Arc<Filter>,
    /// Send the whole state of every room, and answer at once.
    pub full_state: bool,
    /// What the request says of the user's presence.
    pub set_presence: PresenceState,
    /// How long to wait for news.
    pub timeout: Duration,
    /// State at the end of timelines instead of at their start, under this name (`state_after`).
    pub state_after: Option<&'static str>,
}

impl Sync {
    /// Answers a request with the JSON of the response, as soon as there is news, or after the
    /// timeout. Cancel-safe.
    ///
    /// # Errors
    /// [`SyncError::InvalidToken`] for a token of the future; else storage errors.
    pub async fn v3(&self, caller: &Session, request: &V3Request) -> Result<Vec<u8>, SyncError> {
        let inner = &*self.0;
        let _syncing = inner.users.begin_sync(caller.user, request.set_presence);
        if let Some(since) = request.since {
            if since.pos > inner.store.visible() {
                return Err(SyncError::InvalidToken);
            }
            self.acknowledge_messages(caller, since.to_device)?;
        }
        let wait = if request.since.is_none() || request.full_state { Duration::ZERO } else { request.timeout };
        inner
            .look_until(Form::V3, caller, wait, |rows, until, _| {
                Assembly::load(inner, caller, request, rows, until)?.write()
            })
            .await
    }
}

/// One look: everything that one answer is made from.
struct Assembly<'a> {
    sync: &'a Inner,
    caller: &'a Session,
    request: &'a V3Request,
    filter: &'a Filter,
    rows: &'a Rows,
    since: Option<StreamPos>,
    until: StreamPos,
    ignored: Arc<BTreeSet<UserId>>,
    /// Which invitations the user is not shown.
    hidden: HiddenInvites,
    changes: RoomChanges,
    /// Rooms in which the user's membership changed. Of forgotten ones the client may still have to hear the end.
    moved: Vec<(RoomNid, UserRoom)>,
    /// Their ends in rooms that were deleted since.
    departures: Vec<Departure>,
    account_data: AccountDataChanges,
    typing_since: u64,
    typing: Vec<RoomNid>,
    presence: Vec<Presence>,
    messages: QueuedMessages,
    key_counts: Arc<str>,
    token: SyncToken,
}

impl<'a> Assembly<'a> {
    fn load(
        sync: &'a Inner,
        caller: &'a Session,
        request: &'a V3Request,
        rows: &'a Rows,
        until: StreamPos,
    ) -> Result<Assembly<'a>, SyncError> {
        let since = request.since.map(|token| token.pos);
        let (typing_counter, epoch) = sync.rooms.typing_counter();
        let (typing_since, presence_since) = request.since.map_or((0, 0), |token| token.counters(epoch));
        let fact = sync.device_fact(caller.device)?;
        let delivered = request.since.map_or(StreamPos::ZERO, |token| token.to_device);
        let messages = sync.read_messages(caller, &fact, delivered, until, MESSAGES)?;
        let (presence, presence_counter) = sync.read_presence(caller, presence_since)?;
        let to_device = messages.last.filter(|_| messages.has_more).unwrap_or(until);
        let token = SyncToken { pos: until, to_device, epoch, typing: typing_counter, presence: presence_counter };
        Ok(Assembly {
            sync,
            caller,
            request,
            filter: &request.filter,
            rows,
            since,
            until,
            ignored: sync.users.ignored_users(caller.user)?,
            hidden: HiddenInvites::new(sync, caller)?,
            changes: since.map(|since| sync.feed.room_changes(since, rows)).unwrap_or_default(),
            moved: find_moved(sync, caller, rows, since, until),
            departures: match since.filter(|since| has_moved(sync, caller, *since)) {
                Some(since) => sync.rooms.departures(caller.user, since, until)?,
                None => Vec::new(),
            },
            account_data: sync.read_account_data(caller, since, until)?,
            typing_since,
            typing: sync.rooms.rooms_with_typing_since(typing_since),
            presence,
            messages,
            key_counts: fact.key_counts,
            token,
        })
    }

    fn write(&self) -> Result<(Vec<u8>, Found), SyncError> {
        let mut out = Vec::with_capacity(if self.since.is_some() { 512 } else { 64 * 1024 });
        let mut answer = Object::open(&mut out);
        answer.text("next_batch", &self.token.encode());
        let mut news = answer.events("account_data", |events| self.write_account_data(events))?;
        news |= answer
            .events("presence", |events| self.sync.write_presence(&self.presence, &self.filter.presence, events))?;
        news |= answer.events::<SyncError>("to_device", |events| {
            self.messages.events.iter().for_each(|message| events.raw(message.get()));
            Ok(())
        })?;
        let lists = self.read_device_lists()?;
        news |= answer.optional("device_lists", |out| self.write_device_lists(&lists, out))?;
        news |= answer.optional("org.matrix.msc4429.users", |out| self.write_profiles(&lists, out))?;
        news |= answer.optional("rooms", |out| self.write_rooms(out))?;
        // Whoever claims this device's keys is no event, but the device has to learn of it.
        news |=
            self.since.is_some_and(|since| self.sync.feed.may_have_changed(device_topic(self.caller.device), since));
        answer.close();
        // The two members on key counts are written in one piece.
        out.pop();
        out.push(b',');
        out.extend_from_slice(self.key_counts.as_bytes());
        out.push(b'}');
        Ok((out, if news { Found::News } else { Found::Nothing }))
    }

    fn write_account_data(&self, events: &mut Array<'_>) -> Result<(), SyncError> {
        for event in &self.account_data.global {
            if self.filter.account_data.matches_type(&event.kind) {
                write_typed(events.item(), &event.kind, event.content.get());
            }
        }
        Ok(())
    }

    /// Empty for an initial sync.
    fn read_device_lists(&self) -> Result<DeviceLists, SyncError> {
        let Some(since) = self.since else { return Ok(DeviceLists::default()) };
        self.sync.read_device_lists(self.caller, self.rows, &self.changes, since, self.until)
    }

    fn write_device_lists(&self, lists: &DeviceLists, out: &mut Vec<u8>) -> Result<bool, SyncError> {
        if !lists.is_empty() {
            self.sync.write_device_lists(lists, out)?;
        }
        Ok(!lists.is_empty())
    }

    /// What changed of the profiles that the client follows; whole ones of users whom it does not know of yet.
    fn write_profiles(&self, lists: &DeviceLists, out: &mut Vec<u8>) -> Result<bool, SyncError> {
        let fields = &self.filter.profile_fields.ids;
        if fields.is_empty() {
            return Ok(false);
        }
        let wanted = Wanted::Only(fields);
        let mut profiles = Profiles::default();
        match self.since {
            Some(since) => {
                profiles = self.sync.read_profile_changes(self.caller, wanted, since, self.until)?;
                let known = self.sync.only_local(&lists.changed)?;
                self.sync.add_whole_profiles(known, wanted, &mut profiles)?;
            }
            None => {
                let acquaintances = self.sync.local_acquaintances(self.caller)?;
                self.sync.add_whole_profiles(acquaintances, wanted, &mut profiles)?;
            }
        }
        if profiles.is_empty() {
            return Ok(false);
        }
        self.sync.write_profile_updates(profiles, out)?;
        Ok(true)
    }

    fn write_rooms(&self, out: &mut Vec<u8>) -> Result<bool, SyncError> {
        let mut rooms = Object::open(out);
        rooms.optional("join", |out| {
            let mut section = Object::open(out);
            for (room, row) in self.joined_rooms() {
                self.write_joined(&mut section, room, row)?;
            }
            Ok::<_, SyncError>(section.close())
        })?;
        for (name, membership) in [("invite", Membership::Invite), ("knock", Membership::Knock)] {
            rooms.optional(name, |out| {
                let mut section = Object::open(out);
                for (room, row) in self.outside_rooms(|row| row.membership == membership) {
                    self.write_stripped(&mut section, room, row)?;
                }
                Ok::<_, SyncError>(section.close())
            })?;
        }
        rooms.optional("leave", |out| {
            let mut section = Object::open(out);
            let include = self.since.is_some() || self.filter.room.include_leave;
            let gone = |row: &UserRoom| include && matches!(row.membership, Membership::Leave | Membership::Ban);
            for (room, row) in self.outside_rooms(gone) {
                self.write_left(&mut section, room, row)?;
            }
            for departure in &self.departures {
                self.write_departure(&mut section, departure);
            }
            Ok::<_, SyncError>(section.close())
        })?;
        Ok(rooms.close())
    }

    /// The joined rooms that may have news.
    fn joined_rooms(&self) -> Vec<(RoomNid, UserRoom)> {
        let with_row = |room: &RoomNid| self.rows.get(room).map(|row| (*room, *row));
        let mut rooms: Vec<_> = if self.since.is_none() || self.request.full_state {
            self.rows.iter().map(|(room, row)| (*room, *row)).collect()
        } else {
            let changed = self.changes.timelines.iter().chain(&self.changes.receipts).chain(&self.typing);
            changed.chain(self.account_data.rooms.keys()).filter_map(with_row).collect()
        };
        rooms.retain(|(_, row)| row.membership == Membership::Join);
        rooms.sort_unstable_by_key(|(room, _)| *room);
        rooms.dedup_by_key(|(room, _)| *room);
        rooms
    }

    /// The rooms of another membership that the client does not know of yet.
    fn outside_rooms(&self, wanted: impl Fn(&UserRoom) -> bool) -> Vec<(RoomNid, UserRoom)> {
        let all = self.rows.iter().filter(|(_, row)| self.since.is_none() && !row.forgotten);
        let rooms = all.map(|(room, row)| (*room, *row)).chain(self.moved.iter().copied());
        rooms.filter(|(_, row)| wanted(row)).collect()
    }
}

fn find_moved(
    sync: &Inner,
    caller: &Session,
    rows: &Rows,
    since: Option<StreamPos>,
    until: StreamPos,
) -> Vec<(RoomNid, UserRoom)> {
    let Some(since) = since else { return Vec::new() };
    if !has_moved(sync, caller, since) {
        return Vec::new();
    }
    let changed = rows.iter().filter(|(_, row)| row.pos > since && row.pos <= until);
    changed.map(|(room, row)| (*room, *row)).collect()
}

/// Whether some membership of the user may have changed.
fn has_moved(sync: &Inner, caller: &Session, since: StreamPos) -> bool {
    sync.feed.may_have_changed(Topic::new(TOPIC_MEMBERSHIP, caller.user.0), since)
}
