//! The follower: looks at what was committed and notes for whom it is.
//!
//! The commit observer only writes down which rooms changed and up to which position; the work is done in a task. What
//! was looked at is on the disk as a cursor, moved together with the rows that came of it, so that a restart goes on
//! where this left off and forgets nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rooms::{
    Event, Membership, ReceiptKind, RoomNid, RoomSeq, ServerStay, TOPIC_DEVICE_LISTS, TOPIC_EPHEMERAL, TOPIC_ROOM,
    UserNid,
};
use serde::Deserialize;
use spec::ids::{ServerName, UserId};
use storage::{Committed, Read, StreamPos};
use tokio::sync::Notify;

use super::eligible::Sent;
use super::ephemeral::ReceiptMark;
use super::rows::{DEVICE_CHAIN, DEVICE_POS, EXTRA, FOLLOWER, NewRows, PENDING, WHOLE_LISTS};
use super::table::Stretch;
use super::watch::{GATHER_PRESENCE_MS, GATHER_RECEIPTS_MS};
use super::{SendError, Sender};

/// How often the cursor is written although nothing new is pending.
const CURSOR_EVERY: Duration = Duration::from_secs(5);
/// How long the follower waits after the store failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Of how many rooms it is remembered up to where they were looked at; the others are found by reading.
const MAX_REMEMBERED: usize = 10_000;
/// To a server that comes into a room, the presence of so many of our users is told.
const MAX_PRESENCE_ON_JOIN: usize = 100;

/// What was committed and not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    arrived: Mutex<Arrived>,
    news: Notify,
}

#[derive(Clone, Debug, Default)]
struct Arrived {
    rooms: BTreeSet<RoomNid>,
    receipts: BTreeSet<RoomNid>,
    devices: bool,
    /// Rooms with servers of which it was learned late that they are in them.
    missed: BTreeSet<RoomNid>,
    /// All of the above is from batches up to here, and all of theirs is above.
    upto: StreamPos,
}

impl Arrivals {
    /// Called with each group of commits.
    pub fn observe(&self, group: &[Committed]) {
        let mut arrived = self.arrived.lock();
        let mut is_news = false;
        for committed in group {
            arrived.upto = arrived.upto.max(committed.pos);
            for topic in &committed.topics {
                is_news |= match topic.kind() {
                    TOPIC_ROOM => arrived.rooms.insert(RoomNid(topic.id())),
                    TOPIC_EPHEMERAL => arrived.receipts.insert(RoomNid(topic.id())),
                    TOPIC_DEVICE_LISTS => !std::mem::replace(&mut arrived.devices, true),
                    _ => false,
                };
            }
        }
        drop(arrived);
        if is_news {
            self.news.notify_one();
        }
    }

    fn take(&self) -> Arrived {
        let mut arrived = self.arrived.lock();
        let upto = arrived.upto;
        std::mem::replace(&mut *arrived, Arrived { upto, ..Arrived::default() })
    }

    /// Puts back what could not be worked on.
    fn put_back(&self, taken: Arrived) {
        let mut arrived = self.arrived.lock();
        arrived.rooms.extend(taken.rooms);
        arrived.receipts.extend(taken.receipts);
        arrived.devices |= taken.devices;
        arrived.missed.extend(taken.missed);
    }

    pub fn note_missed(&self, rooms: impl IntoIterator<Item = RoomNid>) {
        self.arrived.lock().missed.extend(rooms);
        self.news.notify_one();
    }
}

/// What the follower remembers between two rounds.
#[derive(Debug, Default)]
pub(super) struct Place {
    /// Everything up to here was looked at.
    done: StreamPos,
    /// Whether something was looked at since the cursor was written.
    is_ahead: bool,
    rooms: HashMap<RoomNid, RoomSeq>,
}

/// What one round found.
#[derive(Default)]
pub(super) struct Found {
    /// The first and the last event of a room for a server.
    rooms: BTreeMap<(ServerName, RoomNid), (RoomSeq, RoomSeq)>,
    extras: Vec<(ServerName, RoomNid, RoomSeq)>,
    devices: BTreeMap<ServerName, (StreamPos, StreamPos)>,
    chain: Vec<(UserNid, StreamPos)>,
    /// Servers that are told of changes from so far back that the follower has passed them.
    pub missed_devices: BTreeMap<ServerName, StreamPos>,
    pub whole_lists: BTreeSet<(ServerName, UserNid)>,
    presence: BTreeSet<(ServerName, UserNid)>,
    /// Up to where rooms were looked at.
    seen: Vec<(RoomNid, RoomSeq)>,
}

#[derive(Deserialize)]
struct MemberContent {
    membership: Membership,
}

impl Sender {
    /// Follows until shutdown. Everything after the cursor is looked at first.
    pub(super) async fn follow(self, mut place: Place, shutdown: runtime::CancellationToken) {
        loop {
            let taken = self.arrivals.take();
            if let Err(error) = self.look_at(&taken, &mut place).await {
                tracing::error!(%error, "what was committed cannot be looked at for other servers; it is tried again");
                self.arrivals.put_back(taken);
                if shutdown.run_until_cancelled(self.clock.sleep(RETRY_AFTER)).await.is_none() {
                    return;
                }
                continue;
            }
            tokio::select! {
                () = self.arrivals.news.notified() => {}
                () = self.clock.sleep(CURSOR_EVERY), if place.is_ahead => self.write_cursor(&mut place).await,
                () = shutdown.cancelled() => {
                    self.write_cursor(&mut place).await;
                    return;
                }
            }
        }
    }

    /// Where the follower goes on after a restart, with what it missed.
    pub(super) fn resume_following(&self) -> Result<Place, SendError> {
        let done = self.store.get(&FOLLOWER, &())?.unwrap_or_default();
        let visible = self.store.visible();
        let changed = self.rooms.rooms_changed_after(done)?;
        let mut arrived = self.arrivals.arrived.lock();
        arrived.rooms.extend(changed);
        arrived.devices = true;
        arrived.upto = arrived.upto.max(visible);
        drop(arrived);
        self.arrivals.note_missed(self.rooms.rooms_with_missed_servers()?);
        Ok(Place { done, is_ahead: false, rooms: HashMap::new() })
    }

    async fn write_cursor(&self, place: &mut Place) {
        match NewRows::default().commit(&self.store, place.done).await {
            Ok(()) => place.is_ahead = false,
            // It is only the work of looking again that is lost.
            Err(error) => tracing::debug!(%error, "the cursor of the follower was not written"),
        }
    }

    /// Looks at what has arrived, and makes it pending where it has to go.
    async fn look_at(&self, taken: &Arrived, place: &mut Place) -> Result<(), SendError> {
        if taken.upto <= place.done && taken.missed.is_empty() {
            return Ok(());
        }
        let upto = taken.upto.max(place.done);
        let mut found = Found::default();
        for (index, room) in taken.rooms.iter().enumerate() {
            if let Err(error) = self.look_at_room(*room, taken.upto, place, &mut found) {
                tracing::error!(room = room.0, %error, "a room cannot be read for other servers");
            }
            if index % 64 == 63 {
                tokio::task::yield_now().await;
            }
        }
        if taken.devices {
            self.look_at_devices(place.done, taken.upto, &mut found)?;
        }
        for room in &taken.receipts {
            self.look_at_receipts(*room, place.done, taken.upto)?;
        }
        let missed = self.look_at_missed(&taken.missed, &mut found)?;
        let rows = self.plan_rows(&mut found);
        if rows.is_empty() {
            place.is_ahead |= taken.devices || !taken.rooms.is_empty();
        } else {
            rows.commit(&self.store, upto).await?;
            place.is_ahead = false;
        }
        place.done = upto;
        if place.rooms.len() > MAX_REMEMBERED {
            place.rooms.clear();
        }
        place.rooms.extend(found.seen.iter().copied());
        self.make_pending(found, upto);
        // Their rows stand now. If that is not written they are told twice, which is no harm.
        for (room, servers) in missed {
            self.rooms.forget_missed(room, &servers).await?;
        }
        Ok(())
    }

    fn look_at_room(&self, room: RoomNid, upto: StreamPos, place: &Place, found: &mut Found) -> Result<(), SendError> {
        let mut news = self.rooms.new_events(room, place.rooms.get(&room).copied(), place.done, upto)?;
        for event in news.by_ref() {
            let stays = self.rooms.room_servers(room)?;
            self.look_at_event(&event?, &stays, found)?;
        }
        found.seen.push((room, news.seen()));
        Ok(())
    }

    fn look_at_event(
        &self,
        event: &Event,
        stays: &BTreeMap<ServerName, ServerStay>,
        found: &mut Found,
    ) -> Result<(), SendError> {
        let sender = event.sender_id();
        let origin = sender.as_ref().map_or("", UserId::server_name);
        let sent = Sent { seq: event.seq(), origin, flags: event.flags() };
        let is_ours = sent.is_ours(&self.server_name);
        if is_ours {
            for server in sent.recipients(&self.server_name, stays) {
                if self.destinations.is_allowed(server) {
                    let key = (server.clone(), event.room());
                    found.rooms.entry(key).or_insert((event.seq(), event.seq())).1 = event.seq();
                }
            }
        }
        if event.kind() == "m.room.member"
            && let Some(target) = event.state_key().and_then(|key| UserId::parse(key).ok())
            && let Some(MemberContent { membership }) = event.content_as()
        {
            self.look_at_member(event, &sent, &target, membership, stays, found)?;
        }
        Ok(())
    }

    fn look_at_member(
        &self,
        event: &Event,
        sent: &Sent<'_>,
        target: &UserId,
        membership: Membership,
        stays: &BTreeMap<ServerName, ServerStay>,
        found: &mut Found,
    ) -> Result<(), SendError> {
        let is_local = target.server_name() == self.server_name.as_str();
        if membership == Membership::Join {
            if is_local {
                self.greet_servers(event, target, stays, found)?;
            } else if let Some((server, stay)) = stays.get_key_value(target.server_name())
                && stay.since == event.seq()
            {
                self.add_sticky(event, server, found)?;
                self.greet_server(event.room(), server, found)?;
            }
            return Ok(());
        }
        let Some(previous) = event.replaces() else { return Ok(()) };
        let ends = matches!(membership, Membership::Leave | Membership::Ban);
        if is_local || !ends || !sent.is_ours(&self.server_name) {
            return Ok(());
        }
        let Ok(server) = ServerName::parse(target.server_name()) else { return Ok(()) };
        let hears_anyway = stays.get(&server).is_some_and(|stay| sent.is_for(&self.server_name, &server, stay));
        let is_own = server.as_str() == sent.origin || !self.destinations.is_allowed(&server);
        if hears_anyway || is_own {
            return Ok(());
        }
        let previous = self.rooms.event_at(event.room(), previous)?.content_as::<MemberContent>();
        let was_asked = previous.is_some_and(|of| matches!(of.membership, Membership::Invite | Membership::Knock));
        if was_asked || membership == Membership::Ban {
            found.extras.push((server, event.room(), event.seq()));
        }
        Ok(())
    }

    /// A user of ours came into a room: servers that did not share one with them have to learn of their devices.
    fn greet_servers(
        &self,
        event: &Event,
        user_id: &UserId,
        stays: &BTreeMap<ServerName, ServerStay>,
        found: &mut Found,
    ) -> Result<(), SendError> {
        let Some(user) = self.rooms.user_nid(user_id)? else { return Ok(()) };
        let was_joined = match event.replaces() {
            Some(previous) => {
                let previous = self.rooms.event_at(event.room(), previous)?.content_as::<MemberContent>();
                previous.is_some_and(|of| of.membership == Membership::Join)
            }
            None => false,
        };
        // Who never had keys has nothing to tell.
        if was_joined || self.users.device_list_version(user)? == StreamPos::ZERO {
            return Ok(());
        }
        let others = stays.iter().filter(|(server, stay)| stay.joined > 0 && **server != self.server_name);
        let mut known = None;
        for (server, _) in others.filter(|(server, _)| self.destinations.is_allowed(server)) {
            if known.is_none() {
                known = Some(self.servers_of_rooms(user, Some(event.room()))?);
            }
            if known.as_ref().is_some_and(|known| !known.contains(server)) {
                found.whole_lists.insert((server.clone(), user));
                found.presence.insert((server.clone(), user));
            }
        }
        Ok(())
    }

    /// A server came into a room: it gets our events from before that are still sticky (MSC4354).
    fn add_sticky(&self, join: &Event, server: &ServerName, found: &mut Found) -> Result<(), SendError> {
        if !self.destinations.is_allowed(server) {
            return Ok(());
        }
        for event in self.rooms.sticky_events(join.room())? {
            let sender = event.sender_id();
            let origin = sender.as_ref().map_or("", UserId::server_name);
            let sent = Sent { seq: event.seq(), origin, flags: event.flags() };
            if event.seq() < join.seq() && sent.is_ours(&self.server_name) {
                found.extras.push((server.clone(), event.room(), event.seq()));
            }
        }
        Ok(())
    }

    /// A server came into a room: it learns who of our users there is here.
    fn greet_server(&self, room: RoomNid, server: &ServerName, found: &mut Found) -> Result<(), SendError> {
        if !self.config.presence || !self.destinations.is_allowed(server) {
            return Ok(());
        }
        let members = self.rooms.joined_members(room)?;
        let mut told = 0;
        for user in members.iter() {
            if told >= MAX_PRESENCE_ON_JOIN {
                break;
            }
            let is_here = self.users.presence(*user).is_some_and(|known| known.state != users::PresenceState::Offline);
            if is_here && self.is_local(*user)? {
                found.presence.insert((server.clone(), *user));
                told += 1;
            }
        }
        Ok(())
    }

    fn look_at_devices(&self, done: StreamPos, upto: StreamPos, found: &mut Found) -> Result<(), SendError> {
        let mut told: BTreeMap<UserNid, Arc<BTreeSet<ServerName>>> = BTreeMap::new();
        for change in self.users.device_list_changes(done, upto)? {
            if change.only_for.is_some() || !self.is_local(change.user)? {
                continue;
            }
            if found.chain.last() != Some(&(change.user, change.pos)) {
                found.chain.push((change.user, change.pos));
            }
            let servers = match told.get(&change.user) {
                Some(servers) => Arc::clone(servers),
                None => {
                    let servers = Arc::new(self.servers_of_rooms(change.user, None)?);
                    told.insert(change.user, Arc::clone(&servers));
                    servers
                }
            };
            for server in servers.iter().filter(|server| self.destinations.is_allowed(server)) {
                found.devices.entry(server.clone()).or_insert((change.pos, change.pos)).1 = change.pos;
            }
        }
        Ok(())
    }

    fn look_at_receipts(&self, room: RoomNid, done: StreamPos, upto: StreamPos) -> Result<(), SendError> {
        // Nobody has this number: only what everybody may see comes back.
        let receipts = self.rooms.receipts_since(room, UserNid(u64::MAX), done, upto)?;
        let mut servers = None;
        for receipt in receipts {
            if receipt.kind != ReceiptKind::Read || !self.is_local(receipt.user)? {
                continue;
            }
            if servers.is_none() {
                servers = Some(self.servers_in(room)?);
            }
            let key = (room, receipt.user, receipt.thread);
            let mark = ReceiptMark { event_id: receipt.event_id, at_ms: receipt.at };
            for server in servers.iter().flatten() {
                self.tell(server, GATHER_RECEIPTS_MS, |told| told.note_receipt(key.clone(), mark.clone()));
            }
        }
        Ok(())
    }

    /// The rows that what was found needs. What only adds to what has a row already is noted in memory, and taken out.
    fn plan_rows(&self, found: &mut Found) -> NewRows {
        let mut rows = NewRows::default();
        let mut table = self.table.lock();
        for (server, since) in &mut found.missed_devices {
            *since = table.reach_back(server, *since);
            found.devices.remove(server);
        }
        found.rooms.retain(|(server, room), (_, last)| !table.extend_room(server, *room, *last));
        found.devices.retain(|server, (_, last)| !table.extend_devices(server, *last));
        drop(table);
        for ((server, room), (first, _)) in &found.rooms {
            rows.current().put(&PENDING, &(server.as_str().to_owned(), *room), &before(*first));
        }
        for (server, (first, _)) in &found.devices {
            rows.current().put(&DEVICE_POS, &server.as_str().to_owned(), &StreamPos(first.0.saturating_sub(1)));
        }
        for (server, since) in &found.missed_devices {
            rows.current().put(&DEVICE_POS, &server.as_str().to_owned(), since);
        }
        for (server, room, seq) in &found.extras {
            rows.current().put(&EXTRA, &(server.as_str().to_owned(), *room, *seq), &());
        }
        for (user, pos) in &found.chain {
            rows.current().put(&DEVICE_CHAIN, &(*user, *pos), &());
        }
        for (server, user) in &found.whole_lists {
            rows.current().put(&WHOLE_LISTS, &(server.as_str().to_owned(), *user), &());
        }
        rows
    }

    /// Notes what now has rows, and puts its servers in line.
    fn make_pending(&self, found: Found, upto: StreamPos) {
        let mut table = self.table.lock();
        let mut woken = BTreeSet::new();
        for ((server, room), (first, last)) in found.rooms {
            table.open_room(&server, room, Stretch::new(before(first), last));
            woken.insert(server);
        }
        for (server, (first, last)) in found.devices {
            let stretch = Stretch::new(StreamPos(first.0.saturating_sub(1)), last);
            table.destination(&server).devices = Some(stretch);
            woken.insert(server);
        }
        for (server, since) in found.missed_devices {
            table.destination(&server).devices = Some(Stretch::new(since, upto.max(since.next())));
            woken.insert(server);
        }
        for (server, room, seq) in found.extras {
            table.destination(&server).extras.insert((room, seq));
            woken.insert(server);
        }
        for (server, user) in found.whole_lists {
            table.destination(&server).whole_lists.insert(user);
            woken.insert(server);
        }
        for server in &woken {
            table.wake(server);
        }
        drop(table);
        for (server, user) in found.presence {
            self.tell(&server, GATHER_PRESENCE_MS, |ephemeral| ephemeral.note_presence(user));
        }
        self.wake.notify_one();
    }
}

fn before(seq: RoomSeq) -> RoomSeq {
    RoomSeq(seq.0.saturating_sub(1))
}
