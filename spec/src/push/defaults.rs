//! The server-default rules. Client-Server API §Predefined Rules, in the specification's order.

use serde_json::Value;

use super::edits::PushEdits;
use super::rule::{Action, Condition, Rule, RuleKind, Ruleset};
use crate::ids::UserId;

/// The id of the rule that switches all notifications off; it precedes even the user's own rules.
pub(super) const MASTER_RULE: &str = ".m.rule.master";

/// The condition on following a thread, by its unstable name (MSC4306).
pub(super) const THREAD_SUBSCRIPTION: &str = "io.element.msc4306.thread_subscription";
const SUBSCRIBED_THREAD: &str = ".io.element.msc4306.rule.subscribed_thread";
const UNSUBSCRIBED_THREAD: &str = ".io.element.msc4306.rule.unsubscribed_thread";

/// A condition of a default rule; those naming the user stay abstract until they are rendered.
#[derive(Clone, Copy, Debug)]
pub(super) enum DefaultCondition {
    /// `event_match` of a key and a pattern.
    Match(&'static str, &'static str),
    /// `event_match` of a key and the user's id.
    MatchUser(&'static str),
    /// `event_property_is` of a key and a string.
    IsText(&'static str, &'static str),
    /// `event_property_is` of a key and `true`.
    IsTrue(&'static str),
    /// `event_property_contains` of a key and the user's id.
    ContainsUser(&'static str),
    /// `room_member_count`.
    Members(&'static str),
    /// `sender_notification_permission`.
    SenderMayNotify(&'static str),
    /// `thread_subscription` of MSC4306: whether the user follows the thread of the event.
    FollowsThread(bool),
}

/// What a default rule does on a match.
#[derive(Clone, Copy, Debug)]
enum DefaultActions {
    Nothing,
    Notify,
    NotifyWithSound(&'static str),
    NotifyHighlighted,
    NotifyHighlightedWithSound,
}

/// One row of the table of default rules.
#[derive(Clone, Copy, Debug)]
pub(super) struct DefaultRule {
    pub(super) kind: RuleKind,
    pub(super) rule_id: &'static str,
    pub(super) enabled: bool,
    pub(super) conditions: &'static [DefaultCondition],
    actions: DefaultActions,
}

use DefaultActions::{Nothing, Notify, NotifyHighlighted, NotifyHighlightedWithSound, NotifyWithSound};
use DefaultCondition::{ContainsUser, FollowsThread, IsText, IsTrue, Match, MatchUser, Members, SenderMayNotify};

const fn over(rule_id: &'static str, conditions: &'static [DefaultCondition], actions: DefaultActions) -> DefaultRule {
    DefaultRule { kind: RuleKind::Override, rule_id, enabled: true, conditions, actions }
}

const fn under(rule_id: &'static str, conditions: &'static [DefaultCondition], actions: DefaultActions) -> DefaultRule {
    DefaultRule { kind: RuleKind::Underride, rule_id, enabled: true, conditions, actions }
}

const fn off(rule: DefaultRule) -> DefaultRule {
    DefaultRule { enabled: false, ..rule }
}

/// Every default rule, by kind and then highest priority first. The poll rules carry the unstable names of
/// MSC3930, which is accepted but not yet in a specification release; those of invitations to calls the unstable names of
/// MSC4075, which is open. Those of threads (MSC4306) are there to be switched on: users whose clients cannot subscribe
/// would hear of no thread any more.
#[rustfmt::skip]
pub(super) const DEFAULT_RULES: &[DefaultRule] = &[
    DefaultRule { kind: RuleKind::Override, rule_id: MASTER_RULE, enabled: false, conditions: &[], actions: Nothing },
    over(".m.rule.suppress_notices", &[Match("content.msgtype", "m.notice")], Nothing),
    over(".m.rule.invite_for_me", &[Match("type", "m.room.member"), Match("content.membership", "invite"), MatchUser("state_key")], NotifyWithSound("default")),
    over(".m.rule.member_event", &[Match("type", "m.room.member")], Nothing),
    over(".org.matrix.msc4075.rule.rtc.invite_for_me", &[Match("type", "org.matrix.msc4075.rtc.invite"), ContainsUser("content.m\\.mentions.user_ids")], NotifyWithSound("ring")),
    over(".m.rule.is_user_mention", &[ContainsUser("content.m\\.mentions.user_ids")], NotifyHighlightedWithSound),
    over(".org.matrix.msc4075.rule.rtc.invite_for_room", &[Match("type", "org.matrix.msc4075.rtc.invite"), IsTrue("content.m\\.mentions.room"), SenderMayNotify("room")], NotifyWithSound("ring")),
    over(".m.rule.is_room_mention", &[IsTrue("content.m\\.mentions.room"), SenderMayNotify("room")], NotifyHighlighted),
    over(".m.rule.tombstone", &[Match("type", "m.room.tombstone"), Match("state_key", "")], NotifyHighlighted),
    over(".m.rule.reaction", &[Match("type", "m.reaction")], Nothing),
    over(".m.rule.room.server_acl", &[Match("type", "m.room.server_acl"), Match("state_key", "")], Nothing),
    over(".m.rule.suppress_edits", &[IsText("content.m\\.relates_to.rel_type", "m.replace")], Nothing),
    over(".org.matrix.msc3930.rule.poll_response", &[Match("type", "org.matrix.msc3381.poll.response")], Nothing),
    off(over(UNSUBSCRIBED_THREAD, &[FollowsThread(false)], Nothing)),
    off(under(SUBSCRIBED_THREAD, &[FollowsThread(true)], NotifyWithSound("default"))),
    under(".m.rule.call", &[Match("type", "m.call.invite")], NotifyWithSound("ring")),
    under(".m.rule.encrypted_room_one_to_one", &[Members("2"), Match("type", "m.room.encrypted")], NotifyWithSound("default")),
    under(".m.rule.room_one_to_one", &[Members("2"), Match("type", "m.room.message")], NotifyWithSound("default")),
    under(".m.rule.message", &[Match("type", "m.room.message")], Notify),
    under(".m.rule.encrypted", &[Match("type", "m.room.encrypted")], Notify),
    under(".org.matrix.msc3930.rule.poll_start_one_to_one", &[Members("2"), Match("type", "org.matrix.msc3381.poll.start")], NotifyWithSound("default")),
    under(".org.matrix.msc3930.rule.poll_start", &[Match("type", "org.matrix.msc3381.poll.start")], Notify),
    under(".org.matrix.msc3930.rule.poll_end_one_to_one", &[Members("2"), Match("type", "org.matrix.msc3381.poll.end")], NotifyWithSound("default")),
    under(".org.matrix.msc3930.rule.poll_end", &[Match("type", "org.matrix.msc3381.poll.end")], Notify),
];

impl DefaultCondition {
    fn render(self, user: &UserId) -> Condition {
        let text = |value: &str| Value::String(value.to_owned());
        let event_match = |key, pattern| Condition::build("event_match", &[("key", text(key)), ("pattern", pattern)]);
        match self {
            Match(key, pattern) => event_match(key, text(pattern)),
            MatchUser(key) => event_match(key, text(user.as_str())),
            IsText(key, value) => Condition::build("event_property_is", &[("key", text(key)), ("value", text(value))]),
            IsTrue(key) => Condition::build("event_property_is", &[("key", text(key)), ("value", Value::Bool(true))]),
            ContainsUser(key) => {
                Condition::build("event_property_contains", &[("key", text(key)), ("value", text(user.as_str()))])
            }
            Members(is) => Condition::build("room_member_count", &[("is", text(is))]),
            SenderMayNotify(key) => Condition::build("sender_notification_permission", &[("key", text(key))]),
            FollowsThread(follows) => Condition::build(THREAD_SUBSCRIPTION, &[("subscribed", Value::Bool(follows))]),
        }
    }
}

impl DefaultRule {
    /// The rule's actions as they are before a user edits them.
    pub(super) fn actions(&self) -> Vec<Action> {
        match self.actions {
            Nothing => Vec::new(),
            Notify => vec![Action::Notify],
            NotifyWithSound(sound) => vec![Action::Notify, Action::sound(sound)],
            NotifyHighlighted => vec![Action::Notify, Action::highlight()],
            NotifyHighlightedWithSound => vec![Action::Notify, Action::sound("default"), Action::highlight()],
        }
    }

    /// The rule as `user` sees it before any edit.
    pub(super) fn render(&self, user: &UserId) -> Rule {
        Rule {
            rule_id: self.rule_id.to_owned(),
            default: true,
            enabled: self.enabled,
            actions: self.actions(),
            conditions: Some(self.conditions.iter().map(|condition| condition.render(user)).collect()),
            pattern: None,
            other: serde_json::Map::new(),
        }
    }
}

/// The default rule with this kind and id.
pub(super) fn find_default(kind: RuleKind, rule_id: &str) -> Option<&'static DefaultRule> {
    DEFAULT_RULES.iter().find(|rule| rule.kind == kind && rule.rule_id == rule_id)
}

/// The ruleset of a user who has edited nothing. Client-Server API §Predefined Rules.
pub fn default_ruleset(user: &UserId) -> Ruleset {
    PushEdits::default().ruleset(user)
}
