use rooms::Membership;
use spec::ids::RoomId;
use spec::policy_list::PolicyRule;

use super::*;

fn gate(rules: &[(&str, &str)]) -> PolicyGate {
    let (mut compiled, list) = (PolicyRules::default(), Arc::from("!list:lists.test"));
    for (kind, entity) in rules {
        let content = json!({"entity": entity, "recommendation": "m.ban"}).to_string();
        compiled.add(&list, PolicyRule::read(kind, &content).unwrap());
    }
    let lists = Arc::new(PolicyLists::default());
    *lists.rules.write() = Arc::new(compiled);
    PolicyGate { lists, server_name: ServerName::parse("hs.test").unwrap() }
}

fn judge(gate: &PolicyGate, sender: &str, target: &str, room: &str) -> bool {
    let (sender, target) = (UserId::parse(sender).unwrap(), UserId::parse(target).unwrap());
    let room = RoomId::parse(room).unwrap();
    gate.judge(&Deed { membership: Membership::Invite, sender: &sender, target: &target, room: Some(&room) }).is_ok()
}

#[test]
fn whom_the_lists_name_is_refused_as_sender_and_as_target() {
    let gate = gate(&[
        ("m.policy.rule.user", "@spam:*"),
        ("m.policy.rule.server", "evil.test"),
        ("m.policy.rule.room", "!bad:any.test"),
    ]);
    let table = [
        ("@a:hs.test", "@b:other.test", "!room:any.test", true),
        ("@spam:other.test", "@a:hs.test", "!room:any.test", false),
        ("@a:hs.test", "@spam:other.test", "!room:any.test", false),
        ("@x:evil.test", "@a:hs.test", "!room:any.test", false),
        ("@x:evil.test:8448", "@a:hs.test", "!room:any.test", false),
        ("@x:notevil.test", "@a:hs.test", "!room:any.test", true),
        ("@a:hs.test", "@a:hs.test", "!bad:any.test", false),
        // What becomes of this server's own users is for its configuration to say.
        ("@spam:hs.test", "@a:hs.test", "!room:any.test", true),
    ];
    for (sender, target, room, allowed) in table {
        assert_eq!(judge(&gate, sender, target, room), allowed, "{sender} {target} {room}");
    }
    let (refusals, left_out) = gate.lists.refusals.take();
    assert_eq!((refusals.len(), left_out), (5, 0));
    assert_eq!(refusals.front().unwrap()["rule"], "@spam:*");
}

#[test]
fn a_list_that_bans_everybody_leaves_this_server_to_its_own_users() {
    let gate = gate(&[("m.policy.rule.server", "*"), ("m.policy.rule.user", "@*")]);
    assert!(judge(&gate, "@a:hs.test", "@b:hs.test", "!room:hs.test"));
    assert!(!judge(&gate, "@a:other.test", "@b:hs.test", "!room:hs.test"));
}

#[test]
fn refusals_are_kept_within_bounds() {
    let gate = gate(&[("m.policy.rule.user", "@spam:other.test")]);
    for _ in 0..MAX_REFUSALS + 3 {
        judge(&gate, "@spam:other.test", "@a:hs.test", "!room:any.test");
    }
    let (refusals, left_out) = gate.lists.refusals.take();
    assert_eq!((refusals.len(), left_out), (MAX_REFUSALS, 3));
}
