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
fn a_search_is_cut_at_its_limit_and_leaves_out_oneself_and_the_gone() {
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
    assert_eq!((found.len(), has_more), (2, false));
    assert!(f.users.search_users(viewer, " ", 9).unwrap().0.is_empty());
}
