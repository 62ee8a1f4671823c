use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;
use crate::ids::UserId;

const ALICE: &str = "@alice:example.org";
const BOB: &str = "@bob:example.org";

fn alice() -> UserId {
    UserId::parse(ALICE).unwrap()
}

struct Case {
    event: Value,
    members: u64,
    may_notify: bool,
    name: Option<&'static str>,
    follows_thread: Option<bool>,
}

fn message(content: Value) -> Case {
    typed("m.room.message", content)
}

fn typed(kind: &str, content: Value) -> Case {
    let event = json!({"type": kind, "content": content});
    Case { event, members: 3, may_notify: false, name: None, follows_thread: None }
}

impl Case {
    fn state_key(mut self, state_key: &str) -> Self {
        self.event["state_key"] = json!(state_key);
        self
    }

    fn members(self, members: u64) -> Self {
        Self { members, ..self }
    }

    fn sender_may_notify(self) -> Self {
        Self { may_notify: true, ..self }
    }

    /// The id of the rule that decides, with the verdict as `-`, `n`otify, `h`ighlight and the sound.
    fn run(&self, edits: &PushEdits) -> (String, String) {
        let content = RawValue::from_string(self.event["content"].to_string()).unwrap();
        let event = EventForPush::new(EventParts {
            kind: self.event["type"].as_str().unwrap(),
            sender: self.event["sender"].as_str().unwrap_or(BOB),
            room_id: "!room:example.org",
            event_id: "$event",
            state_key: self.event["state_key"].as_str(),
            origin_server_ts: 1_700_000_000_000,
            content: &content,
        });
        let room = RoomContext {
            member_count: self.members,
            sender_may_notify: &|key| {
                assert_eq!(key, "room");
                self.may_notify
            },
        };
        let rules = CompiledRuleset::compile(edits);
        let recipient = Recipient { user_id: ALICE, display_name: self.name, follows_thread: self.follows_thread };
        let outcome = rules.evaluate(&event, &room, &recipient);
        let mut verdict = String::new();
        verdict.push_str(if outcome.notify { "n" } else { "-" });
        verdict.push_str(if outcome.highlight { "h" } else { "" });
        verdict.push_str(outcome.sound.unwrap_or_default());
        (outcome.rule_id.unwrap_or_default().to_owned(), verdict)
    }

    #[track_caller]
    fn expect(&self, rule_id: &str, verdict: &str) {
        assert_eq!(self.run(&PushEdits::default()), (rule_id.to_owned(), verdict.to_owned()), "{}", self.event);
    }
}

fn with_rule(kind: RuleKind, rule_id: &str, rule: Value) -> PushEdits {
    let mut edits = PushEdits::default();
    let new = serde_json::from_value(rule).unwrap();
    edits.put_rule(kind, rule_id, new, Placement::default()).unwrap();
    edits
}

/// Whether an override rule with this one condition matches the case.
fn condition_matches(condition: Value, case: &Case) -> bool {
    let edits = with_rule(RuleKind::Override, "test", json!({"actions": ["notify"], "conditions": [condition]}));
    case.run(&edits).0 == "test"
}

#[test]
fn default_rules_decide_as_specified() {
    message(json!({"msgtype": "m.text", "body": "hi"})).expect(".m.rule.message", "n");
    message(json!({"body": "hi"})).members(2).expect(".m.rule.room_one_to_one", "ndefault");
    message(json!({"msgtype": "m.notice", "body": "hi"})).expect(".m.rule.suppress_notices", "-");
    typed("m.room.encrypted", json!({})).expect(".m.rule.encrypted", "n");
    typed("m.room.encrypted", json!({})).members(2).expect(".m.rule.encrypted_room_one_to_one", "ndefault");
    typed("m.call.invite", json!({})).expect(".m.rule.call", "nring");
    typed("m.reaction", json!({})).expect(".m.rule.reaction", "-");
    typed("m.room.topic", json!({})).state_key("").expect("", "-");
    let invite = || typed("m.room.member", json!({"membership": "invite"}));
    invite().state_key(ALICE).expect(".m.rule.invite_for_me", "ndefault");
    invite().state_key(BOB).expect(".m.rule.member_event", "-");
    typed("m.room.tombstone", json!({})).state_key("").expect(".m.rule.tombstone", "nh");
    typed("m.room.tombstone", json!({})).expect("", "-");
    typed("m.room.server_acl", json!({})).state_key("").expect(".m.rule.room.server_acl", "-");
}

#[test]
fn mentions_edits_and_polls_decide_as_specified() {
    let mention = |ids: Value| message(json!({"body": "x", "m.mentions": {"user_ids": ids}}));
    mention(json!([ALICE])).expect(".m.rule.is_user_mention", "nhdefault");
    mention(json!(["@zoe:x", ALICE, 7, BOB]))
        .expect(".m.rule.is_user_mention", "n h default".replace(' ', "").as_str());
    mention(json!([BOB])).expect(".m.rule.message", "n");
    mention(json!(ALICE)).expect(".m.rule.message", "n");
    let room = || message(json!({"body": "x", "m.mentions": {"room": true}}));
    room().sender_may_notify().expect(".m.rule.is_room_mention", "nh");
    room().expect(".m.rule.message", "n");
    message(json!({"body": "x", "m.mentions": {"room": "true"}})).sender_may_notify().expect(".m.rule.message", "n");
    let edit = json!({"body": "* x", "m.relates_to": {"rel_type": "m.replace", "event_id": "$a"}});
    message(edit).expect(".m.rule.suppress_edits", "-");
    let poll = |kind: &str| typed(&format!("org.matrix.msc3381.poll.{kind}"), json!({}));
    poll("response").expect(".org.matrix.msc3930.rule.poll_response", "-");
    poll("start").expect(".org.matrix.msc3930.rule.poll_start", "n");
    poll("end").members(2).expect(".org.matrix.msc3930.rule.poll_end_one_to_one", "ndefault");
}

#[test]
fn invitations_to_calls_ring_for_whom_they_mention() {
    let invite = |mentions: Value| typed("org.matrix.msc4075.rtc.invite", json!({"m.mentions": mentions}));
    invite(json!({"user_ids": [ALICE]})).expect(".org.matrix.msc4075.rule.rtc.invite_for_me", "nring");
    invite(json!({"user_ids": [BOB]})).expect("", "-");
    let room = || invite(json!({"room": true}));
    room().sender_may_notify().expect(".org.matrix.msc4075.rule.rtc.invite_for_room", "nring");
    room().expect("", "-");
    // As clients of the time before send it: a mention like any other.
    let notification = json!({"notification_type": "ring", "m.mentions": {"user_ids": [ALICE]}});
    typed("org.matrix.msc4075.rtc.notification", notification).expect(".m.rule.is_user_mention", "nhdefault");
}

#[test]
fn own_events_never_notify() {
    let mut case = message(json!({"body": "hi"}));
    case.event["sender"] = json!(ALICE);
    case.expect("", "-");
}

#[test]
fn content_that_is_no_object_matches_by_type_only() {
    for content in [json!([]), json!("x"), Value::Null] {
        message(content).expect(".m.rule.message", "n");
    }
}

#[test]
fn event_match_reads_escaped_paths() {
    let event = message(json!({"a": {"b.c": "Deep Value", "b\\c": "Slash", "n": 1}, "body": "An example event."}));
    let matches = |key: &str, pattern: &str| {
        condition_matches(json!({"kind": "event_match", "key": key, "pattern": pattern}), &event)
    };
    assert!(matches("content.a.b\\.c", "deep*"));
    assert!(matches("content.a.b\\\\c", "slash"));
    assert!(matches("content.a.b\\c", "slash"), "other escapes are literal");
    assert!(!matches("content.a.b.c", "*"));
    assert!(!matches("content.a.n", "*"), "not a string");
    assert!(!matches("content.absent", "*"));
    assert!(matches("content.body", "EXAMPLE") && !matches("content.body", "exam"));
    assert!(matches("sender", "@bob:*") && matches("room_id", "!ROOM:example.org"));
    assert!(!matches("state_key", ""));
}

#[test]
fn exact_values_are_compared_with_their_type() {
    let event = message(json!({
        "m.federate": true, "n": 7, "f": 7.0, "nothing": null, "list": ["a", 1, null, ["x"]], "body": null,
    }));
    let is = |key: &str, value: Value| {
        condition_matches(json!({"kind": "event_property_is", "key": key, "value": value}), &event)
    };
    assert!(is("content.m\\.federate", json!(true)));
    assert!(!is("content.m\\.federate", json!("true")) && !is("content.m\\.federate", json!(1)));
    assert!(is("content.n", json!(7)) && !is("content.f", json!(7)) && !is("content.n", json!(7.0)));
    assert!(is("content.nothing", Value::Null) && is("content.body", Value::Null));
    assert!(!is("content.absent", Value::Null));
    assert!(is("type", json!("m.room.message")) && !is("type", json!("M.room.message")));
    assert!(is("origin_server_ts", json!(1_700_000_000_000_i64)));
    let contains = |key: &str, value: Value| {
        condition_matches(json!({"kind": "event_property_contains", "key": key, "value": value}), &event)
    };
    assert!(contains("content.list", json!("a")) && contains("content.list", json!(1)));
    assert!(contains("content.list", Value::Null));
    assert!(!contains("content.list", json!("A")) && !contains("content.list", json!(["x"])));
    assert!(!contains("content.n", json!(7)));
}

#[test]
fn member_counts_are_compared() {
    let matches = |is: &str, members| {
        let event = message(json!({})).members(members);
        condition_matches(json!({"kind": "room_member_count", "is": is}), &event)
    };
    for (is, two, three) in [
        ("2", true, false),
        ("==2", true, false),
        ("<3", true, false),
        (">2", false, true),
        ("<=2", true, false),
        (">=3", false, true),
        ("", false, false),
        ("=2", false, false),
        ("+2", false, false),
        ("x", false, false),
    ] {
        assert_eq!((matches(is, 2), matches(is, 3)), (two, three), "{is}");
    }
}

#[test]
fn display_names_are_found_as_words() {
    let matches = |body: &str, name| {
        let case = Case { name: Some(name), ..message(json!({"body": body})) };
        condition_matches(json!({"kind": "contains_display_name"}), &case)
    };
    assert!(matches("hello ALICE liddell!", "Alice Liddell") && matches("hé, Élise?", "élise"));
    assert!(!matches("malice", "alice") && !matches("anything", "") && !matches("axb", "a*b"));
}

#[test]
fn unknown_conditions_are_kept_and_never_match() {
    let unknown = json!({"kind": "org.example.moon", "phase": {"full": true}});
    let edits = with_rule(
        RuleKind::Override,
        "moon",
        json!({"actions": ["notify", {"org.example": 1}], "conditions": [unknown], "x-extra": [1], "enabled": false}),
    );
    let shown = serde_json::to_value(edits.ruleset(&alice())).unwrap();
    let expected = json!({
        "rule_id": "moon", "default": false, "enabled": true, "x-extra": [1],
        "actions": ["notify", {"org.example": 1}], "conditions": [unknown],
    });
    assert_eq!(shown["override"][1], expected);
    assert_eq!(message(json!({})).run(&edits).0, ".m.rule.message");
    let stored: PushEdits = serde_json::from_slice(&serde_json::to_vec(&edits).unwrap()).unwrap();
    assert_eq!(stored, edits);
    assert!(!condition_matches(json!({"kind": "event_match", "key": "type"}), &message(json!({}))));
}

#[test]
fn kinds_are_tried_in_order_and_user_rules_first() {
    let mut edits = PushEdits::default();
    let case = message(json!({"body": "tea time"}));
    let mut put = |kind, rule_id: &str, extra: Value| {
        let mut body = json!({"actions": []});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let new = serde_json::from_value(body).unwrap();
        edits.put_rule(kind, rule_id, new, Placement::default()).unwrap();
        case.run(&edits).0
    };
    assert_eq!(put(RuleKind::Underride, "u", json!({})), "u");
    assert_eq!(put(RuleKind::Sender, BOB, json!({})), BOB);
    assert_eq!(put(RuleKind::Sender, "@zoe:example.org", json!({})), BOB);
    assert_eq!(put(RuleKind::Room, "!room:example.org", json!({})), "!room:example.org");
    assert_eq!(put(RuleKind::Content, "c", json!({"pattern": "te?"})), "c");
    assert_eq!(put(RuleKind::Override, "o", json!({"conditions": []})), "o");
    edits.set_enabled(RuleKind::Override, ".m.rule.master", true).unwrap();
    assert_eq!(case.run(&edits), (".m.rule.master".to_owned(), "-".to_owned()));
    edits.set_enabled(RuleKind::Override, ".m.rule.master", false).unwrap();
    edits.set_enabled(RuleKind::Override, "o", false).unwrap();
    assert_eq!(case.run(&edits).0, "c");
}

fn own_ids(edits: &PushEdits) -> Vec<String> {
    let ruleset = edits.ruleset(&alice());
    ruleset.content.iter().map(|rule| rule.rule_id.clone()).collect()
}

#[test]
fn rules_are_placed_before_and_after() {
    let mut edits = PushEdits::default();
    let mut put = |rule_id: &str, before, after| {
        let new = NewRule { pattern: Some("x".to_owned()), ..NewRule::default() };
        edits.put_rule(RuleKind::Content, rule_id, new, Placement { before, after })?;
        Ok(own_ids(&edits))
    };
    assert_eq!(put("a", None, None).unwrap(), ["a"]);
    assert_eq!(put("b", None, None).unwrap(), ["b", "a"]);
    assert_eq!(put("c", None, Some("b")).unwrap(), ["b", "c", "a"]);
    assert_eq!(put("d", Some("c"), Some("a")).unwrap(), ["b", "d", "c", "a"]);
    assert_eq!(put("a", None, None).unwrap(), ["b", "d", "c", "a"], "an update keeps its place");
    assert_eq!(put("a", Some("b"), None).unwrap(), ["a", "b", "d", "c"]);
    assert_eq!(put("a", None, Some("a")).unwrap(), ["a", "b", "d", "c"]);
    assert_eq!(put("b", None, Some("d")).unwrap(), ["a", "d", "b", "c"]);
    assert_eq!(put("e", Some("zz"), None), Err(EditError::NeighbourNotFound("zz".to_owned())));
    assert_eq!(put("e", Some("e"), None), Err(EditError::NeighbourNotFound("e".to_owned())));
    assert_eq!(own_ids(&edits), ["a", "d", "b", "c"]);
}

#[test]
fn threads_notify_by_whether_they_are_followed_once_that_is_switched_on() {
    let case = |follows_thread| Case { follows_thread, ..message(json!({"body": "hi"})) };
    let shown = default_ruleset(&alice());
    let rules = [
        (RuleKind::Override, ".io.element.msc4306.rule.unsubscribed_thread", false, json!([])),
        (
            RuleKind::Underride,
            ".io.element.msc4306.rule.subscribed_thread",
            true,
            json!(["notify", {"set_tweak": "sound", "value": "default"}]),
        ),
    ];
    let mut edits = PushEdits::default();
    for (kind, id, subscribed, actions) in rules {
        let condition = json!([{"kind": "io.element.msc4306.thread_subscription", "subscribed": subscribed}]);
        let expected =
            json!({"rule_id": id, "default": true, "enabled": false, "conditions": condition, "actions": actions});
        assert_eq!(serde_json::to_value(shown.rule(kind, id).unwrap()).unwrap(), expected);
        assert!(!CompiledRuleset::compile(&edits).asks_for_threads());
        edits.set_enabled(kind, id, true).unwrap();
        assert!(CompiledRuleset::compile(&edits).asks_for_threads());
        if kind == RuleKind::Override {
            assert_eq!(case(Some(false)).run(&edits), (id.to_owned(), "-".to_owned()));
            edits = PushEdits::default();
        }
    }
    let (followed, other) = (case(Some(true)), case(None));
    assert_eq!(followed.run(&edits).1, "ndefault");
    assert_eq!(other.run(&edits), (".m.rule.message".to_owned(), "n".to_owned()));
    case(Some(false)).expect(".m.rule.message", "n");
    // Mentions are heard of in every thread.
    edits.set_enabled(RuleKind::Override, ".io.element.msc4306.rule.unsubscribed_thread", true).unwrap();
    let mention = message(json!({"m.mentions": {"user_ids": [ALICE]}}));
    assert_eq!(Case { follows_thread: Some(false), ..mention }.run(&edits).1, "nhdefault");
    let condition = json!({"kind": "io.element.msc4306.thread_subscription", "subscribed": true});
    assert!(condition_matches(condition.clone(), &followed) && !condition_matches(condition, &other));
    assert!(!condition_matches(json!({"kind": "io.element.msc4306.thread_subscription"}), &followed));
}

#[test]
fn edits_of_default_rules_are_kept_apart() {
    let mut edits = PushEdits::default();
    edits.set_actions(RuleKind::Underride, ".m.rule.message", vec![Action::sound("ping")]).unwrap();
    edits.set_enabled(RuleKind::Override, ".m.rule.suppress_notices", false).unwrap();
    let shown = edits.ruleset(&alice());
    assert_eq!(shown.rule(RuleKind::Underride, ".m.rule.message").unwrap().actions, [Action::sound("ping")]);
    assert!(!shown.rule(RuleKind::Override, ".m.rule.suppress_notices").unwrap().enabled);
    assert_eq!(message(json!({"msgtype": "m.notice"})).run(&edits), (".m.rule.message".into(), "-ping".into()));
    edits.set_actions(RuleKind::Underride, ".m.rule.message", vec![Action::Notify]).unwrap();
    edits.set_enabled(RuleKind::Override, ".m.rule.suppress_notices", true).unwrap();
    assert!(edits.is_empty(), "an edit that restores the default is forgotten");
    assert!(std::sync::Arc::ptr_eq(&CompiledRuleset::compile(&edits), &CompiledRuleset::defaults()));
}

#[test]
fn faulty_edits_are_refused() {
    let mut edits = PushEdits::default();
    let new = |rule: Value| serde_json::from_value::<NewRule>(rule).unwrap();
    let mut put = |kind, rule_id: &str, rule| edits.put_rule(kind, rule_id, new(rule), Placement::default());
    let empty = || json!({"actions": []});
    assert_eq!(put(RuleKind::Room, ".m.rule.mine", empty()), Err(EditError::ReservedId));
    assert_eq!(put(RuleKind::Room, "a/b", empty()), Err(EditError::InvalidId));
    assert_eq!(put(RuleKind::Room, "a\\b", empty()), Err(EditError::InvalidId));
    assert_eq!(put(RuleKind::Content, "c", empty()), Err(EditError::MissingPattern));
    let long = json!({"actions": [], "pattern": "x".repeat(257)});
    assert_eq!(put(RuleKind::Content, "c", long), Err(EditError::InvalidPattern));
    let unkind = json!({"actions": [], "conditions": [{"key": "type"}]});
    assert_eq!(put(RuleKind::Override, "o", unkind), Err(EditError::InvalidCondition));
    assert!(serde_json::from_value::<NewRule>(json!({})).is_err(), "actions are required");
    assert!(serde_json::from_value::<NewRule>(json!({"actions": [1]})).is_err());
    let big = json!({"actions": [], "blob": "x".repeat(MAX_EDITS_BYTES)});
    assert_eq!(put(RuleKind::Override, "big", big), Err(EditError::TooLarge));
    assert_eq!(edits.delete_rule(RuleKind::Override, ".m.rule.master"), Err(EditError::NotFound));
    assert_eq!(edits.set_enabled(RuleKind::Content, "none", true), Err(EditError::NotFound));
    assert_eq!(edits.set_actions(RuleKind::Override, ".m.rule.message", vec![]), Err(EditError::NotFound));
    assert!(edits.is_empty());
}

#[test]
fn historical_actions_are_dropped_and_state_is_kept() {
    let mut edits = with_rule(RuleKind::Room, "!a:b", json!({"actions": ["dont_notify", "notify", "coalesce"]}));
    edits.set_enabled(RuleKind::Room, "!a:b", false).unwrap();
    let new = serde_json::from_value(json!({"actions": ["dont_notify"]})).unwrap();
    edits.put_rule(RuleKind::Room, "!a:b", new, Placement::default()).unwrap();
    let rule = edits.ruleset(&alice()).rule(RuleKind::Room, "!a:b").unwrap().clone();
    assert!(rule.actions.is_empty() && !rule.enabled && rule.conditions.is_none());
    edits.delete_rule(RuleKind::Room, "!a:b").unwrap();
    assert!(edits.is_empty());
}

#[test]
fn default_rules_are_shown_as_specified() {
    let shown = serde_json::to_value(default_ruleset(&alice())).unwrap();
    assert_eq!(
        shown["override"][0],
        json!({"rule_id": ".m.rule.master", "default": true, "enabled": false, "conditions": [], "actions": []})
    );
    let mention = json!({
        "rule_id": ".m.rule.is_user_mention", "default": true, "enabled": true,
        "conditions": [
            {"kind": "event_property_contains", "key": "content.m\\.mentions.user_ids", "value": ALICE}
        ],
        "actions": ["notify", {"set_tweak": "sound", "value": "default"}, {"set_tweak": "highlight"}],
    });
    assert_eq!(shown["override"][5], mention);
    assert_eq!(shown["override"][2]["conditions"][2]["pattern"], ALICE);
    let count = |kind: &str| shown[kind].as_array().unwrap().len();
    assert_eq!(RuleKind::ALL.map(|kind| count(kind.as_str())), [14, 0, 0, 0, 10]);
}

#[test]
fn highlight_follows_its_value() {
    for (value, expected) in [(json!(true), "nh"), (json!(false), "n"), (json!("yes"), "n")] {
        let action = json!({"set_tweak": "highlight", "value": value});
        let edits = with_rule(RuleKind::Override, "h", json!({"actions": ["notify", action]}));
        assert_eq!(message(json!({})).run(&edits), ("h".to_owned(), expected.to_owned()));
    }
}
