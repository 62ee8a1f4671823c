use super::*;

#[test]
fn the_creator_joins_right_after_the_create_event() {
    for version in RoomVersion::ALL {
        let mut room = Room::new(version).join_rule("invite");
        room.state.retain(|event| &*event.kind != MEMBER);
        let mut join = event(version, "new", ALICE, MEMBER, Some(ALICE), json!({ "membership": "join" }));
        assert_eq!(room.check_event(join.clone()), Err(AuthFailure::JoinNotInvited), "{version}");
        join["prev_events"] = json!(["$create"]);
        assert_eq!(room.check_event(join.clone()), Ok(()));
        join["prev_events"] = json!(["$create", "$other"]);
        assert_eq!(room.check_event(join), Err(AuthFailure::JoinNotInvited));
    }
}

#[test]
fn join_rules_decide_who_joins() {
    let invited = |failure: AuthFailure| move |expected: bool| if expected { Ok(()) } else { Err(failure.clone()) };
    for version in RoomVersion::ALL {
        for membership in ["leave", "invite", "join", "knock"] {
            let expected = membership == "invite" || membership == "join";
            let join = |rule| Room::new(version).join_rule(rule).member(BOB, membership).check_member(BOB, BOB, "join");
            assert_eq!(join("public"), Ok(()));
            assert_eq!(join("invite"), invited(AuthFailure::JoinNotInvited)(expected));
            assert_eq!(join("private"), Err(AuthFailure::JoinRuleForbids));
            let since = |first, failure| {
                if version < first { Err(AuthFailure::JoinRuleForbids) } else { invited(failure)(expected) }
            };
            assert_eq!(join("knock"), since(RoomVersion::V7, AuthFailure::JoinNotInvited));
            assert_eq!(join("restricted"), since(RoomVersion::V8, AuthFailure::JoinNotAuthorised));
            assert_eq!(join("knock_restricted"), since(RoomVersion::V10, AuthFailure::JoinNotAuthorised));
        }
        let banned = Room::new(version).join_rule("public").member(BOB, "ban");
        assert_eq!(banned.check_member(BOB, BOB, "join"), Err(AuthFailure::JoinBanned));
        assert_eq!(banned.check_member(ALICE, CAROL, "join"), Err(AuthFailure::JoinForOtherUser));
    }
}

#[test]
fn restricted_joins_need_a_member_who_may_invite() {
    for version in [RoomVersion::V8, RoomVersion::V9, RoomVersion::V10, RoomVersion::V12] {
        let room = Room::new(version).join_rule("restricted").levels(json!({ "invite": 50, "users": { CAROL: 50 } }));
        let join = |room: &Room, by: Value| {
            let content = json!({ "membership": "join", "join_authorised_via_users_server": by });
            room.check(BOB, MEMBER, Some(BOB), content)
        };
        assert_eq!(join(&room, CAROL.into()), Err(AuthFailure::JoinAuthoriserNotJoined));
        assert_eq!(join(&room, "carol".into()), Err(AuthFailure::JoinAuthoriserMalformed));
        let room = room.member(CAROL, "join").member("@weak:a.example", "join");
        assert_eq!(join(&room, CAROL.into()), Ok(()));
        assert_eq!(join(&room, "@weak:a.example".into()), Err(AuthFailure::JoinAuthoriserMayNotInvite));
    }
}

#[test]
fn inviting_needs_a_member_and_an_outsider() {
    for version in RoomVersion::ALL {
        let room = Room::new(version).member(BOB, "join").levels(json!({ "invite": 10, "users": { ALICE: 10 } }));
        assert_eq!(room.check_member(ALICE, CAROL, "invite"), Ok(()));
        assert_eq!(room.check_member(BOB, CAROL, "invite"), Err(AuthFailure::InviteLevel));
        assert_eq!(room.check_member(ALICE, BOB, "invite"), Err(AuthFailure::InviteTargetJoined));
        assert_eq!(room.check_member(CAROL, "@d:d.example", "invite"), Err(AuthFailure::InviteSenderNotJoined));
        let room = room.member(CAROL, "ban");
        assert_eq!(room.check_member(ALICE, CAROL, "invite"), Err(AuthFailure::InviteTargetBanned));
    }
}

#[test]
fn leaving_kicking_and_banning() {
    for version in RoomVersion::ALL {
        let levels = json!({ "ban": 60, "kick": 50, "users": { BOB: 50, CAROL: 49, "@dave:d.example": 60 } });
        let room = Room::new(version).member(BOB, "join").member("@dave:d.example", "join").levels(levels);
        assert_eq!(room.check_member(BOB, BOB, "leave"), Ok(()));
        assert_eq!(room.check_member(CAROL, CAROL, "leave"), Err(AuthFailure::LeaveNotInRoom));
        assert_eq!(room.check_member(CAROL, BOB, "leave"), Err(AuthFailure::KickSenderNotJoined));
        assert_eq!(room.check_member(CAROL, BOB, "ban"), Err(AuthFailure::BanSenderNotJoined));
        assert_eq!(room.check_member(BOB, "@dave:d.example", "leave"), Err(AuthFailure::KickTargetLevel));
        assert_eq!(room.check_member(BOB, CAROL, "ban"), Err(AuthFailure::BanLevel));
        assert_eq!(room.check_member("@dave:d.example", CAROL, "ban"), Ok(()));
        assert_eq!(room.check_member("@dave:d.example", "@dave:d.example", "ban"), Err(AuthFailure::BanTargetLevel));
        let room = room.member(CAROL, "invite");
        assert_eq!(room.check_member(CAROL, CAROL, "leave"), Ok(()));
        assert_eq!(room.check_member(BOB, CAROL, "leave"), Ok(()));
        let room = room.member(CAROL, "ban");
        assert_eq!(room.check_member(BOB, CAROL, "leave"), Err(AuthFailure::UnbanLevel));
        assert_eq!(room.check_member(CAROL, CAROL, "leave"), Err(AuthFailure::LeaveNotInRoom));
        let room = room.member("@weak:w.example", "join");
        assert_eq!(room.check_member("@weak:w.example", BOB, "leave"), Err(AuthFailure::KickLevel));
    }
}

#[test]
fn knocking() {
    for version in RoomVersion::ALL {
        let knock = |rule, membership| Room::new(version).join_rule(rule).member(BOB, membership);
        if version < RoomVersion::V7 {
            assert_eq!(knock("knock", "leave").check_member(BOB, BOB, "knock"), Err(AuthFailure::MembershipUnknown));
            continue;
        }
        assert_eq!(knock("knock", "leave").check_member(BOB, BOB, "knock"), Ok(()));
        assert_eq!(knock("knock", "knock").check_member(BOB, BOB, "leave"), Ok(()));
        assert_eq!(knock("invite", "leave").check_member(BOB, BOB, "knock"), Err(AuthFailure::KnockRule));
        assert_eq!(knock("knock", "ban").check_member(BOB, BOB, "knock"), Err(AuthFailure::KnockBanned));
        assert_eq!(knock("knock", "invite").check_member(BOB, BOB, "knock"), Err(AuthFailure::KnockInRoom));
        assert_eq!(knock("knock", "leave").check_member(ALICE, BOB, "knock"), Err(AuthFailure::KnockForOtherUser));
        let both = knock("knock_restricted", "leave").check_member(BOB, BOB, "knock");
        assert_eq!(both, if version < RoomVersion::V10 { Err(AuthFailure::KnockRule) } else { Ok(()) });
    }
}

#[test]
fn malformed_memberships_are_refused() {
    for version in RoomVersion::ALL {
        let room = Room::new(version);
        let check = |key, content| room.check(ALICE, MEMBER, key, content);
        assert_eq!(check(None, json!({ "membership": "join" })), Err(AuthFailure::MemberWithoutStateKey));
        assert_eq!(check(Some(ALICE), json!({})), Err(AuthFailure::MemberWithoutMembership));
        assert_eq!(check(Some(ALICE), json!({ "membership": 1 })), Err(AuthFailure::MemberWithoutMembership));
        assert_eq!(check(Some(ALICE), json!({ "membership": "dance" })), Err(AuthFailure::MembershipUnknown));
        let no_user = check(Some("alice"), json!({ "membership": "join" }));
        assert_eq!(no_user, Err(AuthFailure::MemberStateKeyNotUser));
    }
}

#[test]
fn third_party_invites_redeem_a_signed_token() {
    let key = SigningKey::from_seed([7; 32], "0").unwrap();
    let mut signed: Map<String, Value> = Map::new();
    signed.insert("mxid".into(), CAROL.into());
    signed.insert("token".into(), "t".into());
    let unsigned = Value::Object(signed.clone());
    key.sign_json(&mut signed, "identity.example").unwrap();
    let signed = Value::Object(signed);

    for version in RoomVersion::ALL {
        let mut room = Room::new(version);
        let invite = |room: &Room, sender: &str, target: &str, invite: Value| {
            let content = json!({ "membership": "invite", "third_party_invite": invite });
            room.check(sender, MEMBER, Some(target), content)
        };
        let good = json!({ "signed": signed });
        assert_eq!(invite(&room, ALICE, CAROL, good.clone()), Err(AuthFailure::ThirdPartyUnknownToken));
        room.set(ALICE, THIRD_PARTY_INVITE, "t", json!({ "public_key": key.public_base64() }));
        assert_eq!(invite(&room, ALICE, CAROL, good.clone()), Ok(()));
        assert_eq!(invite(&room, BOB, CAROL, good.clone()), Err(AuthFailure::ThirdPartyOtherSender));
        assert_eq!(invite(&room, ALICE, BOB, good.clone()), Err(AuthFailure::ThirdPartyOtherUser));
        assert_eq!(invite(&room, ALICE, CAROL, json!({})), Err(AuthFailure::ThirdPartyUnsigned));
        let incomplete = invite(&room, ALICE, CAROL, json!({ "signed": { "mxid": CAROL } }));
        assert_eq!(incomplete, Err(AuthFailure::ThirdPartyIncomplete));
        let forged = invite(&room, ALICE, CAROL, json!({ "signed": unsigned }));
        assert_eq!(forged, Err(AuthFailure::ThirdPartyBadSignature));
        let listed = json!({ "public_keys": [{ "public_key": "bad" }, { "public_key": key.public_base64() }] });
        room.set(ALICE, THIRD_PARTY_INVITE, "t", listed);
        assert_eq!(invite(&room, ALICE, CAROL, good.clone()), Ok(()));
        let room = room.member(CAROL, "ban");
        assert_eq!(invite(&room, ALICE, CAROL, good), Err(AuthFailure::ThirdPartyTargetBanned));
    }
}
