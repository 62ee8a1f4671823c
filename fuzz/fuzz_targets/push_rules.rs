//! Push rules: a user's rule and an event's content, separated by the first line break.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use spec::{
    ids::UserId,
    push::{
        CompiledRuleset, EventForPush, EventParts, NewRule, Placement, PushEdits, Recipient, RoomContext, RuleKind,
    },
};

fuzz_target!(|text: &str| {
    let (rule, content) = text.split_once('\n').unwrap_or((text, "{}"));
    let mut edits = PushEdits::default();
    if let Ok(rule) = serde_json::from_str::<NewRule>(rule) {
        for (kind, id) in [
            (RuleKind::Override, "own"),
            (RuleKind::Underride, "own"),
            (RuleKind::Content, "own"),
            (RuleKind::Room, "!room:example.org"),
            (RuleKind::Sender, "@alice:example.org"),
        ] {
            let _ = edits.put_rule(kind, id, rule.clone(), Placement::default());
        }
    }
    let bob = UserId::parse("@bob:example.org").expect("a user id");
    let shown = serde_json::to_vec(&edits.ruleset(&bob)).expect("rules serialise");
    assert!(!shown.is_empty());
    let stored = serde_json::to_vec(&edits).expect("edits serialise");
    let read: PushEdits = serde_json::from_slice(&stored).expect("stored edits can be read");
    assert_eq!(read, edits);

    let Ok(content) = serde_json::from_str::<&RawValue>(content) else { return };
    let event = EventForPush::new(EventParts {
        kind: "m.room.message",
        sender: "@alice:example.org",
        room_id: "!room:example.org",
        event_id: "$event",
        state_key: None,
        origin_server_ts: 1,
        content,
    });
    let room = RoomContext { member_count: 2, sender_may_notify: &|kind| kind == "room" };
    for (display_name, follows_thread) in
        [(None, None), (Some(""), Some(true)), (Some("Bob"), Some(false)), (Some("B*b?"), None)]
    {
        let recipient = Recipient { user_id: bob.as_str(), display_name, follows_thread };
        let verdict = |rules: &CompiledRuleset| rules.evaluate(&event, &room, &recipient).notify;
        assert_eq!(verdict(&CompiledRuleset::compile(&edits)), verdict(&CompiledRuleset::compile(&read)));
        verdict(&CompiledRuleset::defaults());
    }
});
