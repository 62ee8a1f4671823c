//! The follower: looks at what was committed, once for all services, and notes for each what it cares for.
//!
//! The commit observer only writes down what was touched; the work is done in a task. Nothing is written: whoever loses
//! the notes reads the log after the cursor of the service again (`catch_up.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use rooms::{
    Event, Membership, RoomNid, RoomSeq, TOPIC_ALIASES, TOPIC_DEVICE, TOPIC_DEVICE_LISTS, TOPIC_EPHEMERAL,
    TOPIC_MEMBERSHIP, TOPIC_ROOM, UserNid,
};
use serde::Deserialize;
use storage::{Committed, StreamPos};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use users::DeviceNid;

use crate::Dispatcher;
use crate::error::DispatchError;
use crate::interest::{Interest, member_target};
use crate::line::Noted;

/// How long the follower waits after the store failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// Of how many rooms it is remembered up to where they were looked at; the others are found by reading.
const MAX_REMEMBERED: usize = 10_000;

/// What was committed and not looked at yet.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    arrived: Mutex<Arrived>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Arrived {
    /// Whether there are services; what is committed without any is of no interest.
    is_needed: bool,
    rooms: BTreeSet<RoomNid>,
    members: BTreeSet<(RoomNid, UserNid)>,
    aliases: BTreeSet<RoomNid>,
    receipts: BTreeSet<RoomNid>,
    devices: BTreeSet<DeviceNid>,
    lists: bool,
    /// All of the above is from batches up to here, and all of theirs is above.
    upto: StreamPos,
}

impl Arrivals {
    /// Called with each group of commits.
    pub fn observe(&self, group: &[Committed]) {
        let mut arrived = self.arrived.lock();
        for committed in group {
            arrived.upto = arrived.upto.max(committed.pos);
            if arrived.is_needed {
                arrived.note(committed);
            }
        }
        let is_news = arrived.is_needed;
        drop(arrived);
        if is_news {
            self.news.notify_one();
        }
    }

    /// From now on what is committed is written down, or no more. Where that begins, if it did not do so before; it was
    /// read before `visible`.
    pub fn begin(&self, is_needed: bool, visible: StreamPos) -> Option<StreamPos> {
        let mut arrived = self.arrived.lock();
        let begins = is_needed && !arrived.is_needed;
        arrived.is_needed = is_needed;
        arrived.upto = arrived.upto.max(visible);
        begins.then_some(arrived.upto)
    }

    fn take(&self) -> Arrived {
        let mut arrived = self.arrived.lock();
        let rest = Arrived { is_needed: arrived.is_needed, upto: arrived.upto, ..Arrived::default() };
        std::mem::replace(&mut *arrived, rest)
    }

    /// Puts back what could not be worked on.
    fn put_back(&self, taken: Arrived) {
        let mut arrived = self.arrived.lock();
        arrived.rooms.extend(taken.rooms);
        arrived.members.extend(taken.members);
        arrived.aliases.extend(taken.aliases);
        arrived.receipts.extend(taken.receipts);
        arrived.devices.extend(taken.devices);
        arrived.lists |= taken.lists;
    }
}

impl Arrived {
    fn note(&mut self, committed: &Committed) {
        let mut rooms = Vec::new();
        for topic in &committed.topics {
            match topic.kind() {
                TOPIC_ROOM => rooms.push(RoomNid(topic.id())),
                TOPIC_ALIASES => _ = self.aliases.insert(RoomNid(topic.id())),
                TOPIC_EPHEMERAL => _ = self.receipts.insert(RoomNid(topic.id())),
                TOPIC_DEVICE => _ = self.devices.insert(DeviceNid(topic.id())),
                TOPIC_DEVICE_LISTS => self.lists = true,
                _ => {}
            }
        }
        for room in rooms {
            let members = committed.topics.iter().filter(|topic| topic.kind() == TOPIC_MEMBERSHIP);
            self.members.extend(members.map(|topic| (room, UserNid(topic.id()))));
            self.rooms.insert(room);
        }
    }
}

/// What one round found, by the places of the services.
#[derive(Default)]
struct Found {
    events: BTreeMap<usize, Vec<Noted>>,
    lists: BTreeMap<usize, BTreeSet<UserNid>>,
    /// Up to where rooms were looked at.
    seen: Vec<(RoomNid, RoomSeq)>,
}

#[derive(Deserialize)]
struct MemberContent {
    membership: Membership,
}

impl Dispatcher {
    /// Follows until shutdown.
    pub(crate) async fn follow(self) {
        let shutdown = self.tasks.shutdown_token();
        let mut services = self.users.watch_appservices();
        let mut tasks: HashMap<String, JoinHandle<()>> = HashMap::new();
        let mut seen = HashMap::new();
        let mut is_current = false;
        loop {
            if !is_current {
                let set = services.borrow_and_update().clone();
                is_current = self.take_over(set, &mut tasks, &mut seen).await;
            }
            let taken = self.arrivals.take();
            let worked = is_current && self.look_at_all(&taken, &mut seen).await;
            if !worked {
                self.arrivals.put_back(taken);
                if shutdown.run_until_cancelled(self.clock.sleep(RETRY_AFTER)).await.is_none() {
                    return;
                }
                continue;
            }
            tokio::select! {
                () = self.arrivals.news.notified() => {}
                changed = services.changed() => match changed {
                    Ok(()) => is_current = false,
                    Err(_) => return,
                },
                () = shutdown.cancelled() => return,
            }
        }
    }

    async fn look_at_all(&self, taken: &Arrived, seen: &mut HashMap<RoomNid, RoomSeq>) -> bool {
        match self.look_at(taken, seen).await {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "what was committed cannot be looked at for application services; it is tried again");
                false
            }
        }
    }

    /// Looks at what has arrived, and notes it for whom it is.
    async fn look_at(&self, taken: &Arrived, seen: &mut HashMap<RoomNid, RoomSeq>) -> Result<(), DispatchError> {
        let done = *self.done.lock();
        if taken.upto <= done {
            return Ok(());
        }
        let interest = self.interest();
        for (room, user) in &taken.members {
            if skip_unreadable("room", room.0, interest.note_membership(*room, *user))? {
                interest.forget_room(*room);
            }
        }
        for room in &taken.aliases {
            interest.forget_room(*room);
        }
        let mut found = Found::default();
        for (index, room) in taken.rooms.iter().enumerate() {
            let looked = self.look_at_room(&interest, *room, (done, taken.upto), seen, &mut found);
            if skip_unreadable("room", room.0, looked)? {
                // The next look begins behind what cannot be read.
                seen.remove(room);
            }
            if index % 64 == 63 {
                tokio::task::yield_now().await;
            }
        }
        for (room, user) in &taken.members {
            let looked = self.look_at_outside(&interest, *room, *user, (done, taken.upto), &mut found);
            skip_unreadable("room", room.0, looked)?;
        }
        if taken.lists {
            self.look_at_lists(&interest, done, taken.upto, &mut found)?;
        }
        for room in &taken.receipts {
            skip_unreadable("room", room.0, self.look_at_receipts(&interest, *room, done, taken.upto))?;
        }
        for device in &taken.devices {
            skip_unreadable("device", device.0, self.note_device(*device))?;
        }
        if seen.len() > MAX_REMEMBERED {
            seen.clear();
        }
        seen.extend(found.seen.drain(..));
        self.extend_lines(&interest, found, taken.upto);
        Ok(())
    }

    fn extend_lines(&self, interest: &Interest, mut found: Found, upto: StreamPos) {
        // Whoever becomes live meanwhile waits for this, and then has what is behind it from the log.
        let mut done = self.done.lock();
        for (index, service) in interest.services().iter().enumerate() {
            let Some(line) = self.line(service.id()) else { continue };
            let mut events = found.events.remove(&index).unwrap_or_default();
            events.sort_unstable();
            let mut waiting = line.waiting.lock();
            waiting.extend(&events, upto);
            if service.wants_encryption() {
                waiting.lists.extend(found.lists.remove(&index).unwrap_or_default());
                waiting.lists_upto = waiting.lists_upto.max(upto);
            }
            drop(waiting);
            line.news.notify_one();
        }
        *done = upto;
    }

    fn look_at_room(
        &self,
        interest: &Interest,
        room: RoomNid,
        (done, upto): (StreamPos, StreamPos),
        seen: &HashMap<RoomNid, RoomSeq>,
        found: &mut Found,
    ) -> Result<(), DispatchError> {
        let mut news = self.rooms.new_events(room, seen.get(&room).copied(), done, upto)?;
        for event in news.by_ref() {
            self.look_at_event(interest, &event?, found)?;
        }
        found.seen.push((room, news.seen()));
        Ok(())
    }

    fn look_at_event(&self, interest: &Interest, event: &Event, found: &mut Found) -> Result<(), DispatchError> {
        let services = interest.in_event(event)?;
        let noted = Noted { pos: event.pos(), room: event.room(), seq: event.seq() };
        for index in &services {
            found.events.entry(*index).or_default().push(noted);
        }
        let Some(target) = member_target(event) else { return Ok(()) };
        let membership = event.content_as::<MemberContent>().map(|content| content.membership);
        if membership == Some(Membership::Invite) && !services.is_empty() {
            self.ask_for_unknown(target);
        } else if membership == Some(Membership::Join)
            && let Some(user) = self.rooms.user_nid(&target)?
            && self.users.device_list_version(user)? > StreamPos::ZERO
        {
            // Who comes into a room has devices that a service may never have heard of.
            for index in services {
                found.lists.entry(index).or_default().insert(user);
            }
        }
        Ok(())
    }

    /// A membership of a room that this server is not in: an invitation of another server, for one.
    fn look_at_outside(
        &self,
        interest: &Interest,
        room: RoomNid,
        user: UserNid,
        (done, upto): (StreamPos, StreamPos),
        found: &mut Found,
    ) -> Result<(), DispatchError> {
        let owners = interest.of_user(user)?;
        if owners.is_empty() {
            return Ok(());
        }
        if let Some(noted) = self.outside_event(room, user)?
            && noted.pos > done
            && noted.pos <= upto
        {
            for index in owners.iter() {
                found.events.entry(*index).or_default().push(noted);
            }
        }
        Ok(())
    }

    /// The member event of a room that this server is not in: such a room has no timeline.
    pub(crate) fn outside_event(&self, room: RoomNid, user: UserNid) -> Result<Option<Noted>, DispatchError> {
        let Some(row) = self.rooms.membership(room, user)? else { return Ok(None) };
        if row.seq < RoomSeq::FIRST_OUTLIER || self.rooms.is_resident(room)? {
            return Ok(None);
        }
        Ok(Some(Noted { pos: row.pos, room, seq: row.seq }))
    }

    fn look_at_lists(
        &self,
        interest: &Interest,
        done: StreamPos,
        upto: StreamPos,
        found: &mut Found,
    ) -> Result<(), DispatchError> {
        if !interest.services().iter().any(|service| service.wants_encryption()) {
            return Ok(());
        }
        let changes = self.users.device_list_changes(done, upto)?;
        let public = changes.into_iter().filter(|change| change.only_for.is_none());
        for user in public.map(|change| change.user).collect::<BTreeSet<_>>() {
            let looked = interest.around_user(user).map(|services| {
                for index in services {
                    found.lists.entry(index).or_default().insert(user);
                }
            });
            skip_unreadable("user", user.0, looked)?;
        }
        Ok(())
    }

    fn look_at_receipts(
        &self,
        interest: &Interest,
        room: RoomNid,
        done: StreamPos,
        upto: StreamPos,
    ) -> Result<(), DispatchError> {
        let mut receipts = None;
        for index in interest.in_room(room)? {
            let Some(service) = interest.services().get(index).filter(|service| service.ephemeral().is_some()) else {
                continue;
            };
            let Some(line) = self.line(service.id()) else { continue };
            if receipts.is_none() {
                receipts = Some(self.rooms.all_receipts_since(room, done, upto)?);
            }
            for receipt in receipts.iter().flatten() {
                let is_own = interest.of_user(receipt.user)?.contains(&index);
                if receipt.kind == rooms::ReceiptKind::Read || is_own {
                    line.waiting.lock().note_receipt(room, receipt.clone());
                }
            }
        }
        Ok(())
    }
}

/// Whether something cannot be read. It is left out then, so that it keeps nothing else from services; a failure of the
/// store ends the round.
pub(crate) fn skip_unreadable(
    what: &str,
    number: u64,
    looked: Result<(), DispatchError>,
) -> Result<bool, DispatchError> {
    match looked {
        Ok(()) => Ok(false),
        Err(error) if error.is_of_store() => Err(error),
        Err(error) => {
            tracing::error!(what, number, %error, "what cannot be read is not looked at for application services");
            Ok(true)
        }
    }
}
