use super::*;

/// Bob has 50; Alice, 100, and Carol, 50, are listed as well.
fn room(version: RoomVersion) -> Room {
    let users = if version == RoomVersion::V12 {
        json!({ BOB: 50, CAROL: 50, "@top:t.example": 100 })
    } else {
        json!({ ALICE: 100, BOB: 50, CAROL: 50, "@top:t.example": 100 })
    };
    let levels = json!({ "ban": 60, "kick": 40, "events": { "m.room.name": 60 }, "notifications": { "room": 60 },
        "users": users });
    Room::new(version).member(BOB, "join").levels(levels)
}

fn change(version: RoomVersion, sender: &str, change: impl FnOnce(&mut Value)) -> Result<(), AuthFailure> {
    let room = room(version);
    let current = room.state.iter().find(|event| &*event.kind == POWER_LEVELS).unwrap();
    let mut content: Value = current.content().unwrap();
    change(&mut content);
    room.check(sender, POWER_LEVELS, Some(""), content)
}

#[test]
fn nobody_changes_what_is_above_them() {
    for version in RoomVersion::ALL {
        let by_bob = |edit: fn(&mut Value)| change(version, BOB, edit);
        assert_eq!(by_bob(|_| ()), Ok(()));
        assert_eq!(by_bob(|levels| levels["kick"] = 50.into()), Ok(()));
        assert_eq!(by_bob(|levels| levels["kick"] = 51.into()), Err(AuthFailure::PowerField("kick")));
        assert_eq!(by_bob(|levels| levels["ban"] = 10.into()), Err(AuthFailure::PowerField("ban")));
        assert_eq!(by_bob(|levels| levels["redact"] = 60.into()), Err(AuthFailure::PowerField("redact")));
        let name = || Err(AuthFailure::PowerEvent("m.room.name".into()));
        assert_eq!(by_bob(|levels| levels["events"]["m.room.name"] = 50.into()), name());
        assert_eq!(by_bob(|levels| levels["events"] = json!({})), name());
        assert_eq!(by_bob(|levels| levels["events"]["m.room.topic"] = 50.into()), Ok(()));
        let room = by_bob(|levels| levels["notifications"] = json!({}));
        let limited = version >= RoomVersion::V6;
        assert_eq!(room, if limited { Err(AuthFailure::PowerNotification("room".into())) } else { Ok(()) });
        assert_eq!(by_bob(|levels| levels["users"][BOB] = 10.into()), Ok(()));
        assert_eq!(by_bob(|levels| levels["users"][BOB] = 51.into()), Err(AuthFailure::PowerAboveOwn(BOB.into())));
        assert_eq!(by_bob(|levels| levels["users"][CAROL] = 10.into()), Err(AuthFailure::PowerOfPeer(CAROL.into())));
        assert_eq!(by_bob(|levels| levels["users"]["@new:n.example"] = 50.into()), Ok(()));
        let above = by_bob(|levels| levels["users"]["@new:n.example"] = 51.into());
        assert_eq!(above, Err(AuthFailure::PowerAboveOwn("@new:n.example".into())));
        assert_eq!(change(version, ALICE, |levels| levels["users"][CAROL] = 10.into()), Ok(()));
    }
}

#[test]
fn levels_have_to_be_numbers() {
    for version in RoomVersion::ALL {
        let strings = change(version, ALICE, |levels| levels["kick"] = " +0041 ".into());
        let is_strict = version >= RoomVersion::V10;
        assert_eq!(strings, if is_strict { Err(AuthFailure::PowerMalformed("kick")) } else { Ok(()) });
        for bad in [json!(null), json!("x"), json!("1.5"), json!([1]), json!(true)] {
            let field = change(version, ALICE, |levels| levels["kick"] = bad.clone());
            assert_eq!(field, Err(AuthFailure::PowerMalformed("kick")), "{version} {bad}");
            let entry = change(version, ALICE, |levels| levels["users"][BOB] = bad.clone());
            assert_eq!(entry, Err(AuthFailure::PowerMalformed("users")));
        }
        let users = change(version, ALICE, |levels| levels["users"] = json!([]));
        assert_eq!(users, Err(AuthFailure::PowerMalformed("users")));
        let user = change(version, ALICE, |levels| levels["users"]["bob"] = 1.into());
        assert_eq!(user, Err(AuthFailure::PowerUserInvalid));
    }
}

#[test]
fn creators_of_version_12_are_above_all_levels() {
    let version = RoomVersion::V12;
    let mut room = room(version);
    room.set(ALICE, CREATE, "", json!({ "additional_creators": [BOB] }));
    assert_eq!(room.check_member(BOB, "@top:t.example", "ban"), Ok(()));
    assert_eq!(room.check_member(BOB, ALICE, "ban"), Err(AuthFailure::BanTargetLevel));
    let list = |user: &str| room.check(ALICE, POWER_LEVELS, Some(""), json!({ "users": { user: 1 } }));
    assert_eq!(list(ALICE), Err(AuthFailure::PowerOfCreator));
    assert_eq!(list(BOB), Err(AuthFailure::PowerOfCreator));
    assert_eq!(list(CAROL), Ok(()));
}

#[test]
fn without_power_levels_the_creator_has_100() {
    for version in RoomVersion::ALL {
        let room = Room::new(version).member(BOB, "join");
        assert_eq!(room.check(ALICE, "m.room.name", Some(""), json!({})), Ok(()));
        let topic = room.check(BOB, "m.room.name", Some(""), json!({}));
        assert_eq!(topic, Err(AuthFailure::EventLevel { required: 50 }));
        assert_eq!(room.check(ALICE, POWER_LEVELS, Some(""), json!({ "users": { BOB: 1000 } })), Ok(()));
    }
}

#[test]
fn owned_state_belongs_to_users_and_those_above_them() {
    let suffixed = |user: &str| format!("{user}_suffix:!@#$_1");
    for version in RoomVersion::UNSTABLE {
        let room = room(version).member(CAROL, "join");
        let set = |sender: &str, key: &str| room.check(sender, "com.example", Some(key), json!({}));
        for key in [BOB.to_owned(), suffixed(BOB)] {
            assert_eq!(set(BOB, &key), Ok(()), "{key}");
            assert_eq!(set(ALICE, &key), Ok(()), "{key}");
            assert_eq!(set(CAROL, &key), Err(AuthFailure::StateKeyOfOtherUser), "{key}");
        }
        assert_eq!(set(BOB, &suffixed(ALICE)), Err(AuthFailure::StateKeyOfOtherUser));
        for key in ["@oops", "@", "@alice:a.example@_suffix", "@alice:_suffix"] {
            assert_eq!(set(ALICE, key), Err(AuthFailure::StateKeyWithoutOwner), "{key}");
        }
    }
    for version in RoomVersion::ALL {
        let room = room(version);
        for key in [suffixed(ALICE), BOB.to_owned(), "@oops".to_owned()] {
            let set = room.check(ALICE, "com.example", Some(&key), json!({}));
            assert_eq!(set, Err(AuthFailure::StateKeyOfOtherUser), "{key}");
        }
    }
}
