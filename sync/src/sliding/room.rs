//! One room of an answer.

use std::sync::Arc;

use rooms::{Event, Membership, SnapshotId, UserNid};
use serde::Deserialize;
use storage::StreamPos;

use super::connection::SentRoom;
use super::lists::{ListedRoom, Wish};
use super::request::RequiredState;
use super::{Look, ToldRoom};
use crate::error::SyncError;
use crate::events::EventWriter;
use crate::json::{Array, Object};
use crate::stripped::write_stripped_state;
use crate::summary::{avatar_of, choose_heroes, name_of, state_text};
use crate::timeline::{Room, Timeline, is_ignored};

mod required_state;

/// What there is to tell of a room, decided before any of it is read.
struct Occasion {
    /// All of it, as for the first time.
    initial: bool,
    /// More events than before, of which the client has some.
    expanded: bool,
    /// All of the state wanted, because more is wanted than before.
    all_state: bool,
    /// All of the room's state has come to be known here: its members are others than before.
    resynced: bool,
    is_dm: bool,
    tell_dm: bool,
    /// What the client has.
    up_to: Option<StreamPos>,
    sent_events: u64,
    state: Arc<Vec<RequiredState>>,
}

/// The state events that came since the client was told of the room, by what they change.
#[derive(Clone, Copy, Default)]
struct Touched {
    members: bool,
    name: bool,
    avatar: bool,
}

impl Look<'_> {
    /// Tells of a room, if there is anything to tell.
    pub(super) fn write_room(
        &self,
        rooms: &mut Object<'_>,
        listed: &ListedRoom,
        wish: &Wish<'_>,
    ) -> Result<Option<(SentRoom, ToldRoom)>, SyncError> {
        let Some(occasion) = self.find_occasion(listed, wish)? else { return Ok(None) };
        let row = listed.row;
        let head = self.sync.rooms.head(listed.room)?;
        let mut object = Object::open(rooms.key(head.room_id().as_str()));
        if occasion.initial {
            object.bool("initial", true);
        }
        object.text("membership", row.membership.as_str());
        let stamp = if row.membership == Membership::Join { listed.fact.bump_stamp } else { row.pos };
        object.number("bump_stamp", stamp.0);
        if !wish.lists.is_empty() {
            let mut lists = Array::open(object.key("lists"));
            wish.lists.iter().for_each(|name| lists.text(name));
            lists.close();
        }
        if occasion.tell_dm {
            object.bool("is_dm", occasion.is_dm);
        }
        let mut sent = SentRoom {
            up_to: self.until,
            events: occasion.sent_events,
            state: occasion.state.clone(),
            is_dm: occasion.is_dm,
            membership: row.membership,
        };
        let mut timeline = Vec::new();
        let outside = matches!(row.membership, Membership::Invite | Membership::Knock) || row.left_at.is_none();
        if outside && row.membership != Membership::Join {
            self.write_outside(&mut object, listed)?;
        } else {
            timeline = self.write_inside(&mut object, listed, wish, &occasion, &mut sent)?;
        }
        object.close();
        let oldest = timeline.first().map(Event::pos);
        let timeline = timeline.iter().map(Event::seq).collect();
        Ok(Some((sent, ToldRoom { room: listed.room, initial: occasion.initial, oldest, timeline })))
    }

    fn find_occasion(&self, listed: &ListedRoom, wish: &Wish<'_>) -> Result<Option<Occasion>, SyncError> {
        let is_dm = self.direct.contains(listed.room)?;
        let limit = self.limit(wish);
        let Some(sent) = self.connection.rooms.get(&listed.room) else {
            let state = wish.widen(None);
            return Ok(Some(Occasion {
                initial: true,
                expanded: false,
                all_state: true,
                resynced: false,
                is_dm,
                tell_dm: is_dm,
                up_to: None,
                sent_events: 0,
                state,
            }));
        };
        let state = wish.widen(Some(&sent.state));
        let joined_again = listed.row.membership == Membership::Join && sent.membership != Membership::Join;
        let resynced = self.sync.rooms.is_resynced_between(listed.room, sent.up_to, self.until)?;
        let all_state = joined_again || resynced || !Arc::ptr_eq(&state, &sent.state);
        let inside = listed.row.membership == Membership::Join;
        let expanded = inside && !joined_again && limit > sent.events;
        let tell_dm = sent.is_dm != is_dm;
        if !(listed.changed > sent.up_to || all_state || expanded || tell_dm) {
            return Ok(None);
        }
        Ok(Some(Occasion {
            initial: joined_again,
            expanded,
            all_state,
            resynced,
            is_dm,
            tell_dm: tell_dm || (joined_again && is_dm),
            up_to: Some(sent.up_to).filter(|_| !joined_again),
            sent_events: sent.events,
            state,
        }))
    }

    fn limit(&self, wish: &Wish<'_>) -> u64 {
        wish.timeline_limit.min(self.sync.config.max_timeline_events as u64)
    }

    /// A room that the user is not, and was not, in.
    fn write_outside(&self, object: &mut Object<'_>, listed: &ListedRoom) -> Result<(), SyncError> {
        let event = self.sync.rooms.event_at(listed.room, listed.row.seq)?;
        // The draft's name, and the accepted one.
        for name in ["invite_state", "stripped_state"] {
            write_stripped_state(&self.sync.rooms, &event, self.caller.user, object.key(name))?;
        }
        Ok(())
    }

    /// Writes a room that the user is or was in; returns the events of its timeline.
    fn write_inside(
        &self,
        object: &mut Object<'_>,
        listed: &ListedRoom,
        wish: &Wish<'_>,
        occasion: &Occasion,
        sent: &mut SentRoom,
    ) -> Result<Vec<Event>, SyncError> {
        let room = Room::open(&self.sync.rooms, self.caller.user, listed.row, listed.room, self.until)?;
        let limit = self.limit(wish);
        let since = occasion.up_to.filter(|_| !occasion.expanded);
        let ignored = self.sync.users.ignored_users(self.caller.user)?;
        let timeline = room.read_timeline(since, limit as usize, &|event| !is_ignored(&ignored, event))?;
        let told = timeline.events.len() as u64;
        sent.events = match (since, timeline.limited) {
            (None, false) => u64::MAX,
            (None, true) => limit,
            (Some(_), false) => sent.events.saturating_add(told),
            (Some(_), true) => told,
        };
        let (state, touched) = self.read_required_state(&room, &timeline, occasion)?;
        self.write_profile(object, listed, &room, &timeline, occasion.initial, touched)?;
        self.write_timeline(object, &room, &timeline, occasion)?;
        let writer = EventWriter::new(&room.view, &self.caller.device_id, None);
        if !state.is_empty() || occasion.initial {
            writer.write_all(&state, object.key("required_state"))?;
        }
        let unread = self.sync.users.unread_counts(self.caller.user, listed.room)?.total();
        object.number("notification_count", unread.notifications);
        object.number("highlight_count", unread.highlights);
        Ok(timeline.events)
    }

    fn write_timeline(
        &self,
        object: &mut Object<'_>,
        room: &Room<'_>,
        timeline: &Timeline,
        occasion: &Occasion,
    ) -> Result<(), SyncError> {
        if timeline.events.is_empty() && !timeline.limited && !occasion.initial {
            return Ok(());
        }
        if occasion.expanded {
            // The draft's name, and the accepted one.
            object.bool("unstable_expanded_timeline", true);
            object.bool("expanded_timeline", true);
        }
        let writer = EventWriter::new(&room.view, &self.caller.device_id, None);
        writer.write_all(&timeline.events, object.key("timeline"))?;
        object.text("prev_batch", &timeline.prev_batch.to_string());
        object.bool("limited", timeline.limited);
        let is_live = |event: &&Event| self.since.is_some_and(|since| event.pos() > since);
        object.number("num_live", timeline.events.iter().filter(is_live).count() as u64);
        Ok(())
    }

    /// Name, avatar, heroes and counts: those that changed.
    fn write_profile(
        &self,
        object: &mut Object<'_>,
        listed: &ListedRoom,
        room: &Room<'_>,
        timeline: &Timeline,
        initial: bool,
        touched: Touched,
    ) -> Result<(), SyncError> {
        let joined = listed.row.membership == Membership::Join;
        let at_end = |kind: &str, read: fn(&str) -> Option<String>| {
            state_text(room.rooms, listed.room, timeline.snapshot, kind, read)
        };
        // Former members see the room as it was when they left.
        let (name, avatar) = if joined {
            (listed.fact.name.as_deref().map(str::to_owned), listed.fact.avatar.as_deref().map(str::to_owned))
        } else {
            (at_end("m.room.name", name_of)?, at_end("m.room.avatar", avatar_of)?)
        };
        for (key, value, touched) in [("name", &name, touched.name), ("avatar", &avatar, touched.avatar)] {
            match value {
                Some(value) if initial || touched => object.text(key, value),
                None if touched && !initial => object.raw(key, "null"),
                _ => {}
            }
        }
        if !(initial || touched.members || touched.name) {
            return Ok(());
        }
        if name.is_none() {
            let heroes = choose_heroes(room.rooms, listed.room, self.caller.user)?;
            self.write_heroes(object.key("heroes"), room, timeline.snapshot, &heroes)?;
        }
        let head = room.view.head();
        object.number("joined_count", u64::from(head.joined_count()));
        object.number("invited_count", u64::from(head.invited_count()));
        Ok(())
    }

    fn write_heroes(
        &self,
        out: &mut Vec<u8>,
        room: &Room<'_>,
        snapshot: SnapshotId,
        heroes: &[UserNid],
    ) -> Result<(), SyncError> {
        #[derive(Default, Deserialize)]
        struct Profile {
            displayname: Option<String>,
            avatar_url: Option<String>,
        }
        let mut array = Array::open(out);
        for hero in heroes {
            let id = room.rooms.user_id(*hero)?;
            let event = room.rooms.state_event(room.view.room(), snapshot, "m.room.member", id.as_str())?;
            let profile: Profile = event.and_then(|event| event.content_as()).unwrap_or_default();
            let mut object = Object::open(array.item());
            object.text("user_id", id.as_str());
            if let Some(name) = &profile.displayname {
                object.text("displayname", name);
            }
            if let Some(url) = &profile.avatar_url {
                object.text("avatar_url", url);
            }
            object.close();
        }
        array.close();
        Ok(())
    }
}
