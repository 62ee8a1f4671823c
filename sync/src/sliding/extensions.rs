//! Extensions: what an answer holds besides rooms.

use std::collections::BTreeSet;

use rooms::{Membership, RoomNid, TOPIC_USER};
use storage::{StreamPos, Topic};
use users::{SubscriptionRange, device_topic};

use super::{Look, ToldRoom};
use crate::error::SyncError;
use crate::json::{Array, Object, write_typed};
use crate::profiles::{Profiles, Wanted};
use crate::receipts::write_receipt_event;
use crate::thread_subscriptions::page_size;
use crate::to_device::MESSAGES;
use crate::typing::write_typing;

impl Look<'_> {
    /// Writes the extensions that are enabled; says whether there is news among them.
    pub(super) fn write_extensions(&self, out: &mut Vec<u8>, told: &[ToldRoom]) -> Result<bool, SyncError> {
        let wanted = &self.request.extensions;
        let mut extensions = Object::open(out);
        let mut news = false;
        if wanted.to_device.enabled {
            news |= self.write_to_device(extensions.key("to_device"))?;
        }
        if wanted.e2ee.enabled {
            news |= self.write_e2ee(extensions.key("e2ee"))?;
        }
        if wanted.account_data.enabled {
            news |= extensions.optional("account_data", |out| self.write_account_data(out, told))?;
        }
        if wanted.profiles.enabled {
            let name = "org.matrix.msc4262.profiles";
            news |= extensions.optional(name, |out| self.write_profiles(out, told))?;
        }
        if wanted.thread_subscriptions.enabled {
            let name = "io.element.msc4308.thread_subscriptions";
            news |= extensions.optional(name, |out| self.write_thread_subscriptions(out))?;
        }
        if wanted.sticky_events.enabled {
            let name = "org.matrix.msc4354.sticky_events";
            extensions.optional(name, |out| {
                let sticky = self.write_sticky(out, told)?;
                news |= sticky.is_news;
                Ok::<_, SyncError>(sticky.has_events)
            })?;
        }
        if wanted.receipts.enabled {
            news |=
                extensions.optional("receipts", |out| write_by_room(out, |rooms| self.write_receipts(rooms, told)))?;
        }
        if wanted.typing.enabled {
            news |= extensions.optional("typing", |out| write_by_room(out, |rooms| self.write_typing(rooms, told)))?;
        }
        extensions.close();
        Ok(news)
    }

    /// Whether the client has the room, or gets it with this answer, and is to be told of what happens in it.
    fn follows(&self, room: RoomNid, told: &[ToldRoom]) -> bool {
        let joined = self.rows.get(&room).is_some_and(|row| row.membership == Membership::Join);
        joined && (self.connection.rooms.contains_key(&room) || told.iter().any(|told| told.room == room))
    }

    pub(super) fn room_id(&self, room: RoomNid) -> Result<String, SyncError> {
        Ok(self.sync.rooms.head(room)?.room_id().as_str().to_owned())
    }

    fn write_to_device(&self, out: &mut Vec<u8>) -> Result<bool, SyncError> {
        let fact = self.sync.device_fact(self.caller.device)?;
        let limit = self.request.extensions.to_device.limit.map_or(MESSAGES, |limit| limit as usize);
        let messages = self.sync.read_messages(self.caller, &fact, self.delivered, self.until, limit)?;
        let next = messages.last.filter(|_| messages.has_more).unwrap_or(self.until);
        let mut object = Object::open(out);
        object.text("next_batch", &format!("d1_{next}"));
        let mut events = Array::open(object.key("events"));
        messages.events.iter().for_each(|message| events.raw(message.get()));
        let news = events.close();
        object.close();
        Ok(news)
    }

    fn write_e2ee(&self, out: &mut Vec<u8>) -> Result<bool, SyncError> {
        let fact = self.sync.device_fact(self.caller.device)?;
        let mut news = false;
        out.push(b'{');
        out.extend_from_slice(fact.key_counts.as_bytes());
        // A client whose connection was forgotten still knows how far it came with its messages.
        let since = self.since.or(Some(self.delivered).filter(|delivered| *delivered != StreamPos::ZERO));
        if let Some(since) = since {
            let earlier;
            let changes = match self.since {
                Some(_) => &self.changes,
                None => {
                    earlier = self.sync.feed.room_changes(since, self.rows);
                    &earlier
                }
            };
            let lists = self.sync.read_device_lists(self.caller, self.rows, changes, since, self.until)?;
            if !lists.is_empty() {
                news = true;
                out.extend_from_slice(b",\"device_lists\":");
                self.sync.write_device_lists(&lists, out)?;
            }
            news |= self.sync.feed.may_have_changed(device_topic(self.caller.device), since);
        }
        out.push(b'}');
        Ok(news)
    }

    /// Whole profiles of the members of rooms that the client does not have yet, and of users who have come to share a
    /// room; of others what changed.
    fn write_profiles(&self, out: &mut Vec<u8>, told: &[ToldRoom]) -> Result<bool, SyncError> {
        let wanted = self.request.extensions.profiles.fields.as_deref().map_or(Wanted::All, Wanted::Only);
        let (mut profiles, mut left) = (Profiles::default(), BTreeSet::new());
        if let Some(since) = self.since {
            profiles = self.sync.read_profile_changes(self.caller, wanted, since, self.until)?;
            let lists = self.sync.read_device_lists(self.caller, self.rows, &self.changes, since, self.until)?;
            self.sync.add_whole_profiles(self.sync.only_local(&lists.changed)?, wanted, &mut profiles)?;
            left = lists.left;
        } else {
            self.sync.add_whole_profiles([self.caller.user], wanted, &mut profiles)?;
        }
        for told in told.iter().filter(|told| told.initial && self.follows(told.room, std::slice::from_ref(told))) {
            let members = self.sync.local_joined_members(told.room)?;
            self.sync.add_whole_profiles(members, wanted, &mut profiles)?;
        }
        left.retain(|user| !profiles.contains(*user));
        if profiles.is_empty() && left.is_empty() {
            return Ok(false);
        }
        self.sync.write_profile_extension(profiles, &left, out)?;
        Ok(true)
    }

    fn write_thread_subscriptions(&self, out: &mut Vec<u8>) -> Result<bool, SyncError> {
        let user = Topic::new(TOPIC_USER, self.caller.user.0);
        if self.since.is_some_and(|since| !self.sync.feed.may_have_changed(user, since)) {
            return Ok(false);
        }
        let range = SubscriptionRange {
            after: self.since.unwrap_or(StreamPos::ZERO),
            until: self.until,
            limit: page_size(self.request.extensions.thread_subscriptions.limit),
            followed_only: self.since.is_none(),
        };
        let told = self.sync.tell_subscriptions(self.caller, range, "prev_batch")?;
        spec::canonical::write_into(out, &told);
        Ok(!told.is_empty())
    }

    fn write_account_data(&self, out: &mut Vec<u8>, told: &[ToldRoom]) -> Result<bool, SyncError> {
        let all;
        let global = match self.since {
            Some(_) => &self.account_data.global,
            None => {
                all = self.sync.users.all_account_data(self.caller.user)?;
                &all
            }
        };
        let mut object = Object::open(out);
        object.optional::<SyncError>("global", |out| {
            let mut events = Array::open(out);
            for event in global {
                write_typed(events.item(), &event.kind, event.content.get());
            }
            Ok(events.close())
        })?;
        object.optional("rooms", |out| {
            let mut rooms = Object::open(out);
            self.write_room_data(&mut rooms, told)?;
            Ok::<_, SyncError>(rooms.close())
        })?;
        Ok(object.close())
    }

    fn write_room_data(&self, rooms: &mut Object<'_>, told: &[ToldRoom]) -> Result<(), SyncError> {
        let write = |rooms: &mut Object<'_>, room: RoomNid, data: &[users::RoomAccountDataEvent]| {
            if !data.is_empty() {
                let mut events = Array::open(rooms.key(&self.room_id(room)?));
                data.iter().for_each(|event| write_typed(events.item(), &event.kind, event.content.get()));
                events.close();
            }
            Ok::<_, SyncError>(())
        };
        for told in told.iter().filter(|told| told.initial) {
            write(rooms, told.room, &self.sync.users.all_room_account_data(self.caller.user, told.room)?)?;
        }
        for (room, data) in &self.account_data.rooms {
            if self.connection.rooms.contains_key(room) && !is_initial(*room, told) {
                write(rooms, *room, data)?;
            }
        }
        Ok(())
    }

    fn write_receipts(&self, rooms: &mut Object<'_>, told: &[ToldRoom]) -> Result<(), SyncError> {
        let user = self.caller.user;
        let domain = &self.sync.rooms;
        for told in told.iter().filter(|told| told.initial && self.follows(told.room, std::slice::from_ref(told))) {
            // Receipts for the events that are told are younger than those; of older ones only the user's own matter.
            let mut receipts = domain.user_receipts(told.room, user)?;
            if let Some(oldest) = told.oldest {
                let newer = domain.receipts_since(told.room, user, oldest, self.until)?;
                receipts.extend(newer.into_iter().filter(|receipt| receipt.user != user));
            }
            if !receipts.is_empty() {
                write_receipt_event(domain, &receipts, rooms.key(&self.room_id(told.room)?))?;
            }
        }
        let Some(since) = self.since else { return Ok(()) };
        for &room in &self.changes.receipts {
            if !self.follows(room, told) || is_initial(room, told) {
                continue;
            }
            let receipts = domain.receipts_since(room, user, since, self.until)?;
            if !receipts.is_empty() {
                write_receipt_event(domain, &receipts, rooms.key(&self.room_id(room)?))?;
            }
        }
        Ok(())
    }

    fn write_typing(&self, rooms: &mut Object<'_>, told: &[ToldRoom]) -> Result<(), SyncError> {
        let domain = &self.sync.rooms;
        let mut changed = domain.rooms_with_typing_since(self.typing_since);
        changed.retain(|room| self.follows(*room, told) && !is_initial(*room, told));
        for room in changed {
            if let Some(typing) = domain.typing_since(room, self.typing_since) {
                write_typing(domain, &typing, rooms.key(&self.room_id(room)?))?;
            }
        }
        for told in told.iter().filter(|told| told.initial && self.follows(told.room, std::slice::from_ref(told))) {
            if let Some(typing) = domain.typing_since(told.room, 0).filter(|typing| !typing.is_empty()) {
                write_typing(domain, &typing, rooms.key(&self.room_id(told.room)?))?;
            }
        }
        Ok(())
    }
}

fn is_initial(room: RoomNid, told: &[ToldRoom]) -> bool {
    told.iter().any(|told| told.room == room && told.initial)
}

/// `{"rooms":{…}}`; says whether there are any.
fn write_by_room(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Object<'_>) -> Result<(), SyncError>,
) -> Result<bool, SyncError> {
    let mut object = Object::open(out);
    let any = object.optional("rooms", |out| {
        let mut rooms = Object::open(out);
        write(&mut rooms)?;
        Ok::<_, SyncError>(rooms.close())
    })?;
    object.close();
    Ok(any)
}
