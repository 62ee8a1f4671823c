use crate::{UsersConfig, fixture::Fixture};

#[test]
fn local_users_are_found_by_id_and_name_if_the_operator_allows_it() {
    let open = UsersConfig {
        settings: crate::UsersSettings { search_all_local_users: true, ..Default::default() },
        ..Default::default()
    };
    for (config, expected) in [
        (open, vec!["@bob:example.org", "@carol:example.org"]),
        (
            UsersConfig {
                settings: crate::UsersSettings { search_all_local_users: false, ..Default::default() },
                ..Default::default()
            },
            vec![],
        ),
    ] {
        let f = Fixture::with_config(config);
        let viewer = f.account("alice").user;
        let bob = f.account("bob").user;
        let carol = f.account("carol").user;
        f.account("dave");
        f.run(f.users.set_profile_field(carol, "displayname", Some("Uncle BOBBY".into()))).unwrap();
        f.run(f.users.set_profile_field(bob, "avatar_url", Some("mxc://example.org/a".into()))).unwrap();
        let (found, has_more) = f.users.search_users(viewer, "bob", 10).unwrap();
        let ids: Vec<_> = found.iter().map(|user| user.user_id.as_str()).collect();
        assert_eq!(ids, expected);
        assert!(!has_more);
    }
}

#[test]
fn a_search_is_cut_at_its_limit_and_leaves_out_the_gone_but_not_oneself() {
    let f = Fixture::with_config(UsersConfig {
        settings: crate::UsersSettings { search_all_local_users: true, ..Default::default() },
        ..Default::default()
    });
    let viewer = f.account("anna").user;
    f.account("anne");
    f.account("anno");
    let gone = f.account("anni").user;
    f.run(f.users.deactivate(gone)).unwrap();
    let (found, has_more) = f.users.search_users(viewer, "ANN", 1).unwrap();
    assert_eq!(found.len(), 1);
    assert!(has_more);
    let (found, has_more) = f.users.search_users(viewer, "ann", 9).unwrap();
    assert_eq!((found.len(), has_more), (3, false), "the searcher too");
    assert!(f.users.search_users(viewer, " ", 9).unwrap().0.is_empty());
}

#[test]
fn users_of_other_servers_are_found_by_their_name_in_a_shared_room() {
    let f = Fixture::new();
    let (alice, dave) = (f.account("alice"), f.account("dave"));
    let room = f.room(&alice.user_id);
    let bob = spec::ids::UserId::parse("@b:remote.example").unwrap();
    let content = serde_json::json!({"displayname": "Robert", "avatar_url": "mxc://remote.example/x"});
    f.set_member(&room, &bob, rooms::Membership::Join, content.as_object().unwrap().clone());
    let (found, _) = f.users.search_users(alice.user, "rob", 9).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((&found[0].user_id, found[0].display_name.as_deref()), (&bob, Some("Robert")));
    assert_eq!(found[0].avatar_url.as_deref(), Some("mxc://remote.example/x"));
    assert!(f.users.search_users(dave.user, "rob", 9).unwrap().0.is_empty(), "who shares no room finds nobody");
    let (found, _) = f.users.search_users(dave.user, "dave", 9).unwrap();
    assert_eq!(found.iter().map(|user| &user.user_id).collect::<Vec<_>>(), [&dave.user_id], "but themself");
}
