//! Rulesets prepared for evaluation, and the evaluation.

use std::sync::{Arc, LazyLock};

use serde_json::Value;

use super::defaults::{DEFAULT_RULES, DefaultCondition, DefaultRule, MASTER_RULE, THREAD_SUBSCRIPTION};
use super::edits::PushEdits;
use super::event::{EventForPush, Property, Scalar};
use super::glob::{Glob, contains_word};
use super::rule::{Action, Condition, Rule, RuleKind};

/// What the conditions need to know of the room; the same for every recipient.
#[derive(Clone, Copy)]
pub struct RoomContext<'a> {
    /// The number of joined members.
    pub member_count: u64,
    /// Whether the sender's power level suffices for the named kind of notification (such as `room`).
    pub sender_may_notify: &'a dyn Fn(&str) -> bool,
}

/// Whom an event is evaluated for.
#[derive(Clone, Copy, Debug)]
pub struct Recipient<'a> {
    /// The user id.
    pub user_id: &'a str,
    /// The user's display name in the room.
    pub display_name: Option<&'a str>,
    /// Whether the user follows the event's thread; none if it is in none, or [`CompiledRuleset::asks_for_threads`] is
    /// false.
    pub follows_thread: Option<bool>,
}

/// The verdict for one recipient. The default value means: no rule matched, do not notify.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome<'r> {
    /// Whether to notify.
    pub notify: bool,
    /// Whether the event is to be highlighted.
    pub highlight: bool,
    /// The sound to play.
    pub sound: Option<&'r str>,
    /// All actions of the matching rule, as a push gateway or a notification list wants them.
    pub actions: &'r [Action],
    /// The id of the matching rule.
    pub rule_id: Option<&'r str>,
}

/// A user's enabled rules, ready for evaluation. It does not name the user, so that users without edits share
/// [`CompiledRuleset::defaults`].
#[derive(Debug)]
pub struct CompiledRuleset {
    overrides: Vec<CompiledRule>,
    content: Vec<CompiledRule>,
    /// Sorted by rule id, which is the room id.
    rooms: Vec<CompiledRule>,
    /// Sorted by rule id, which is the sender's id.
    senders: Vec<CompiledRule>,
    underride: Vec<CompiledRule>,
    asks_for_threads: bool,
}

#[derive(Debug)]
struct CompiledRule {
    rule_id: Box<str>,
    tests: Vec<Test>,
    actions: Vec<Action>,
    notify: bool,
    highlight: bool,
    sound: Option<Box<str>>,
}

/// One condition. A condition that can never match compiles to none, and its rule is left out.
#[derive(Debug)]
enum Test {
    Matches(Property, Glob),
    MatchesBodyWord(Glob),
    IsUser(Property),
    Is(Property, Scalar<Box<str>>),
    Contains(Property, Scalar<Box<str>>),
    ContainsUser(Property),
    ContainsDisplayName,
    MemberCount(Comparison, u64),
    SenderMayNotify(Box<str>),
    FollowsThread(bool),
}

#[derive(Clone, Copy, Debug)]
enum Comparison {
    Equal,
    Less,
    Greater,
    AtMost,
    AtLeast,
}

static DEFAULTS: LazyLock<Arc<CompiledRuleset>> = LazyLock::new(|| Arc::new(compile(&PushEdits::default())));

impl CompiledRuleset {
    /// The ruleset of every user who has edited nothing.
    pub fn defaults() -> Arc<Self> {
        Arc::clone(&DEFAULTS)
    }

    /// Prepares a user's rules. Without edits this is the shared default.
    pub fn compile(edits: &PushEdits) -> Arc<Self> {
        if edits.is_empty() { Self::defaults() } else { Arc::new(compile(edits)) }
    }

    /// Whether a rule depends on the threads that the user follows ([`Recipient::follows_thread`], MSC4306).
    #[must_use]
    pub fn asks_for_threads(&self) -> bool {
        self.asks_for_threads
    }

    /// Decides what an event means for one recipient. Client-Server API §Push Rules: the first enabled rule
    /// whose conditions hold decides; own events never notify.
    pub fn evaluate<'r>(
        &'r self,
        event: &EventForPush<'_>,
        room: &RoomContext<'_>,
        recipient: &Recipient<'_>,
    ) -> Outcome<'r> {
        if event.sender() == recipient.user_id {
            return Outcome::default();
        }
        let first_match = |rules: &'r [CompiledRule]| rules.iter().find(|rule| rule.matches(event, room, recipient));
        let rule = first_match(&self.overrides)
            .or_else(|| first_match(&self.content))
            .or_else(|| find_by_id(&self.rooms, event.room_id()))
            .or_else(|| find_by_id(&self.senders, event.sender()))
            .or_else(|| first_match(&self.underride));
        rule.map(CompiledRule::outcome).unwrap_or_default()
    }
}

fn find_by_id<'r>(rules: &'r [CompiledRule], rule_id: &str) -> Option<&'r CompiledRule> {
    let index = rules.binary_search_by(|rule| (*rule.rule_id).cmp(rule_id)).ok()?;
    rules.get(index)
}

fn compile(edits: &PushEdits) -> CompiledRuleset {
    let with_conditions = |kind| {
        let mut rules = Vec::new();
        for default in DEFAULT_RULES.iter().filter(|rule| rule.kind == kind && rule.rule_id == MASTER_RULE) {
            rules.extend(compile_default(default, edits));
        }
        rules.extend(edits.own_rules(kind).iter().filter_map(compile_own));
        for default in DEFAULT_RULES.iter().filter(|rule| rule.kind == kind && rule.rule_id != MASTER_RULE) {
            rules.extend(compile_default(default, edits));
        }
        rules
    };
    let by_id = |kind| {
        let mut rules: Vec<_> = edits.own_rules(kind).iter().filter_map(compile_own).collect();
        rules.sort_by(|a, b| a.rule_id.cmp(&b.rule_id));
        rules
    };
    let (overrides, underride) = (with_conditions(RuleKind::Override), with_conditions(RuleKind::Underride));
    let mut tests = overrides.iter().chain(&underride).flat_map(|rule| &rule.tests);
    CompiledRuleset {
        asks_for_threads: tests.any(|test| matches!(test, Test::FollowsThread(_))),
        overrides,
        content: edits.own_rules(RuleKind::Content).iter().filter_map(compile_content).collect(),
        rooms: by_id(RuleKind::Room),
        senders: by_id(RuleKind::Sender),
        underride,
    }
}

fn compile_default(default: &DefaultRule, edits: &PushEdits) -> Option<CompiledRule> {
    if !edits.default_enabled(default) {
        return None;
    }
    let tests = default.conditions.iter().map(|condition| Test::from_default(*condition)).collect::<Option<_>>()?;
    Some(CompiledRule::new(default.rule_id, tests, edits.default_actions(default)))
}

fn compile_own(rule: &Rule) -> Option<CompiledRule> {
    if !rule.enabled {
        return None;
    }
    let tests = rule.conditions.iter().flatten().map(Test::from_condition).collect::<Option<_>>()?;
    Some(CompiledRule::new(&rule.rule_id, tests, rule.actions.clone()))
}

fn compile_content(rule: &Rule) -> Option<CompiledRule> {
    let glob = Glob::new(rule.pattern.as_deref().filter(|_| rule.enabled)?);
    Some(CompiledRule::new(&rule.rule_id, vec![Test::MatchesBodyWord(glob)], rule.actions.clone()))
}

impl CompiledRule {
    fn new(rule_id: &str, tests: Vec<Test>, actions: Vec<Action>) -> Self {
        let mut rule = Self { rule_id: rule_id.into(), tests, actions, notify: false, highlight: false, sound: None };
        for action in &rule.actions {
            match action {
                Action::Notify => rule.notify = true,
                Action::SetTweak { tweak, value } if &**tweak == "highlight" => {
                    rule.highlight = value.as_ref().is_none_or(|value| *value == Value::Bool(true));
                }
                Action::SetTweak { tweak, value } if &**tweak == "sound" => {
                    rule.sound = value.as_ref().and_then(Value::as_str).map(Box::from);
                }
                Action::SetTweak { .. } | Action::Unknown(_) => {}
            }
        }
        rule
    }

    fn matches(&self, event: &EventForPush<'_>, room: &RoomContext<'_>, recipient: &Recipient<'_>) -> bool {
        self.tests.iter().all(|test| test.holds(event, room, recipient))
    }

    fn outcome(&self) -> Outcome<'_> {
        Outcome {
            notify: self.notify,
            highlight: self.highlight,
            sound: self.sound.as_deref(),
            actions: &self.actions,
            rule_id: Some(&self.rule_id),
        }
    }
}

impl Test {
    fn from_default(condition: DefaultCondition) -> Option<Self> {
        Some(match condition {
            DefaultCondition::Match(key, pattern) => Self::matches(key, pattern),
            DefaultCondition::MatchUser(key) => Self::IsUser(Property::parse(key)),
            DefaultCondition::IsText(key, value) => Self::Is(Property::parse(key), Scalar::Text(value.into())),
            DefaultCondition::IsTrue(key) => Self::Is(Property::parse(key), Scalar::Bool(true)),
            DefaultCondition::ContainsUser(key) => Self::ContainsUser(Property::parse(key)),
            DefaultCondition::Members(is) => Self::member_count(is)?,
            DefaultCondition::SenderMayNotify(key) => Self::SenderMayNotify(key.into()),
            DefaultCondition::FollowsThread(follows) => Self::FollowsThread(follows),
        })
    }

    /// Reads a condition; none if it is unknown or malformed, which means that it never matches.
    fn from_condition(condition: &Condition) -> Option<Self> {
        let property = || condition.text("key").map(Property::parse);
        let value = || condition.0.get("value").and_then(Scalar::of).map(Scalar::to_owned);
        match condition.kind()? {
            "event_match" => Some(Self::matches(condition.text("key")?, condition.text("pattern")?)),
            "event_property_is" => Some(Self::Is(property()?, value()?)),
            "event_property_contains" => Some(Self::Contains(property()?, value()?)),
            "contains_display_name" => Some(Self::ContainsDisplayName),
            "room_member_count" => Self::member_count(condition.text("is")?),
            "sender_notification_permission" => Some(Self::SenderMayNotify(condition.text("key")?.into())),
            THREAD_SUBSCRIPTION => Some(Self::FollowsThread(condition.0.get("subscribed")?.as_bool()?)),
            _ => None,
        }
    }

    fn matches(key: &str, pattern: &str) -> Self {
        match Property::parse(key) {
            Property::Body => Self::MatchesBodyWord(Glob::new(pattern)),
            property => Self::Matches(property, Glob::new(pattern)),
        }
    }

    fn member_count(is: &str) -> Option<Self> {
        let operators = [
            ("==", Comparison::Equal),
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        let prefixed = operators.into_iter().find_map(|(prefix, op)| Some((op, is.strip_prefix(prefix)?)));
        let (comparison, digits) = prefixed.unwrap_or((Comparison::Equal, is));
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(Self::MemberCount(comparison, digits.parse().ok()?))
    }

    fn holds(&self, event: &EventForPush<'_>, room: &RoomContext<'_>, recipient: &Recipient<'_>) -> bool {
        match self {
            Self::Matches(property, glob) => property.text(event).is_some_and(|value| glob.matches(value)),
            Self::MatchesBodyWord(glob) => event.body().is_some_and(|body| glob.matches_word(body)),
            Self::IsUser(property) => property.text(event) == Some(recipient.user_id),
            Self::Is(property, wanted) => property.is(event, wanted),
            Self::Contains(property, wanted) => property.contains(event, wanted),
            Self::ContainsUser(property) => property.contains_text(event, recipient.user_id),
            Self::ContainsDisplayName => match (event.body(), recipient.display_name) {
                (Some(body), Some(name)) => contains_word(body, name),
                _ => false,
            },
            Self::MemberCount(comparison, count) => comparison.holds(room.member_count, *count),
            Self::SenderMayNotify(key) => (room.sender_may_notify)(key),
            Self::FollowsThread(wanted) => recipient.follows_thread == Some(*wanted),
        }
    }
}

impl Comparison {
    fn holds(self, actual: u64, wanted: u64) -> bool {
        match self {
            Self::Equal => actual == wanted,
            Self::Less => actual < wanted,
            Self::Greater => actual > wanted,
            Self::AtMost => actual <= wanted,
            Self::AtLeast => actual >= wanted,
        }
    }
}
