//! What an event means for a member of its room: their push rules, applied.
//!
//! Spec: Client-Server API §"Push Rules", §"Ignoring Users". An event is prepared once and then judged for each
//! reader; nothing is remembered here.

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use rooms::{Event, EventFlags, Head, Membership, RoomError, RoomNid, UserNid};
use serde::Deserialize;
use serde_json::value::RawValue;
use spec::{
    ids::UserId,
    power::PowerLevels,
    push::{Action, CompiledRuleset, EventForPush, EventParts, Outcome, Recipient, RoomContext},
};

use crate::{UserError, Users, unread::thread_root};

/// As many members make a room one of several people.
const LEAST_OF_MANY: u32 = 3;

/// That a user is to be notified of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// All actions of the rule that matched.
    pub actions: Vec<Action>,
    /// Whether the event is highlighted.
    pub highlight: bool,
}

/// A room in which events are judged, as it is now.
#[derive(Debug)]
pub struct NoticeRoom {
    head: Arc<Head>,
    power: Option<PowerLevels>,
}

/// An event that is to be judged for readers.
#[derive(Debug)]
pub struct NoticeEvent<'a> {
    room: &'a NoticeRoom,
    event: &'a Event,
    parsed: EventForPush<'a>,
    sender: OnceLock<Option<UserId>>,
}

/// What of a user decides whether events notify them.
#[derive(Debug)]
pub(crate) struct NoticeReader {
    user: UserNid,
    user_id: UserId,
    display_name: Option<String>,
    rules: Arc<CompiledRuleset>,
    /// Where the threads that they follow are looked up, if their rules ask for that.
    threads: Option<Users>,
    ignored: Arc<BTreeSet<UserId>>,
}

impl NoticeRoom {
    pub(crate) fn of_head(head: Arc<Head>) -> Self {
        let levels = |create| PowerLevels::from_state(head.power_levels().map(|pdu| &**pdu), create, head.rules());
        let power = head.create().map(|create| levels(create));
        Self { head, power }
    }

    /// The room's head.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Prepares an event of the room. `None` for what notifies nobody: what was refused or redacted.
    #[must_use]
    pub fn event<'a>(&'a self, event: &'a Event) -> Option<NoticeEvent<'a>> {
        let flags = event.flags();
        if flags.has(EventFlags::REJECTED) || flags.has(EventFlags::SOFT_FAILED) || flags.has(EventFlags::REDACTED) {
            return None;
        }
        let content: &RawValue = serde_json::from_str(event.content()).ok()?;
        let parsed = EventForPush::new(EventParts {
            kind: event.kind(),
            sender: event.sender(),
            room_id: self.head.room_id().as_str(),
            event_id: event.event_id(),
            state_key: event.state_key(),
            origin_server_ts: event.origin_server_ts(),
            content,
        });
        Some(NoticeEvent { room: self, event, parsed, sender: OnceLock::new() })
    }
}

impl NoticeEvent<'_> {
    /// Few rules ask for it.
    fn sender(&self) -> Option<&UserId> {
        self.sender.get_or_init(|| self.event.sender_id()).as_ref()
    }

    /// What the reader's rules say.
    pub(crate) fn outcome<'r>(&self, reader: &'r NoticeReader) -> Result<Outcome<'r>, UserError> {
        if self.event.sender_nid() == reader.user {
            return Ok(Outcome::default());
        }
        if !reader.ignored.is_empty() && self.sender().is_some_and(|sender| reader.ignored.contains(sender)) {
            return Ok(Outcome::default());
        }
        let may_notify = |key: &str| match (&self.room.power, self.sender()) {
            (Some(power), Some(sender)) => power.user(sender).at_least(power.notification(key)),
            _ => false,
        };
        let head = &self.room.head;
        // Of how many members are not known yet: a large room must not pass for a direct chat.
        let members = if head.is_partial() { head.joined_count().max(LEAST_OF_MANY) } else { head.joined_count() };
        let context = RoomContext { member_count: u64::from(members), sender_may_notify: &may_notify };
        let recipient = Recipient {
            user_id: reader.user_id.as_str(),
            display_name: reader.display_name.as_deref(),
            follows_thread: self.is_followed_by(reader)?,
        };
        Ok(reader.rules.evaluate(&self.parsed, &context, &recipient))
    }

    /// Whether the reader follows the event's thread, if it is in one; looked up only for those whose rules ask for it.
    fn is_followed_by(&self, reader: &NoticeReader) -> Result<Option<bool>, UserError> {
        let Some(users) = &reader.threads else { return Ok(None) };
        let Some(root) = thread_root(self.event.content()) else { return Ok(None) };
        let subscription = users.thread_subscription(reader.user, self.event.room(), &root)?;
        Ok(Some(subscription.is_some()))
    }
}

impl Users {
    /// A room in which events are to be judged.
    pub fn room_for_notices(&self, room: RoomNid) -> Result<NoticeRoom, UserError> {
        Ok(NoticeRoom::of_head(self.rooms().head(room)?))
    }

    pub(crate) fn notice_reader(&self, user: UserNid) -> Result<NoticeReader, UserError> {
        let rules = self.compiled_push_rules(user)?;
        Ok(NoticeReader {
            user,
            user_id: self.rooms().user_id(user)?,
            display_name: self.display_name(user)?,
            threads: rules.asks_for_threads().then(|| self.clone()),
            rules,
            ignored: self.ignored_users(user)?,
        })
    }

    /// Whether the event notifies the user: by their rules as they are now, not if they sent it, and not if they ignore
    /// its sender. Whether they may see it is another matter ([`Users::reached`]).
    pub fn notice(&self, event: &NoticeEvent<'_>, user: UserNid) -> Result<Option<Notice>, UserError> {
        Ok(notice_of(&event.outcome(&self.notice_reader(user)?)?))
    }

    /// Whether the event came to the user as a member of its room, and they may see it.
    pub fn reached(&self, event: &Event, user: UserNid) -> Result<bool, UserError> {
        let rooms = self.rooms();
        let row = rooms.membership(event.room(), user)?;
        let Some(row) = row.filter(|row| row.membership == Membership::Join && event.flags().is_visible()) else {
            return Ok(false);
        };
        // A later member event is mostly a change of profile.
        if row.seq >= event.seq() && !self.was_joined_before(event, user)? {
            return Ok(false);
        }
        Ok(!rooms.view(event.room(), user)?.visible(vec![event.clone()])?.is_empty())
    }

    fn was_joined_before(&self, event: &Event, user: UserNid) -> Result<bool, RoomError> {
        #[derive(Deserialize)]
        struct Member {
            membership: Membership,
        }
        let user_id = self.rooms().user_id(user)?;
        let (room, before) = (event.room(), event.state_before());
        let member = self.rooms().state_event(room, before, "m.room.member", user_id.as_str())?;
        let member = member.and_then(|member| member.content_as::<Member>());
        Ok(member.is_some_and(|member| member.membership == Membership::Join))
    }
}

pub(crate) fn notice_of(outcome: &Outcome<'_>) -> Option<Notice> {
    outcome.notify.then(|| Notice { actions: outcome.actions.to_vec(), highlight: outcome.highlight })
}
