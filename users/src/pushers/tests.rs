use serde_json::json;

use super::*;
use crate::fixture::Fixture;

fn pusher(app_id: &str, url: &str) -> Pusher {
    let data = json!({ "url": url, "format": "event_id_only" });
    serde_json::from_value(json!({ "app_id": app_id, "pushkey": "key", "kind": "http", "data": data })).unwrap()
}

const URL: &str = "https://push.example.org/_matrix/push/v1/notify";

#[test]
fn a_pusher_is_replaced_and_deleted() {
    let f = Fixture::new();
    let session = f.session("alice", "A");
    f.run(f.users.set_pusher(&session, pusher("app", URL), false)).unwrap();
    let renamed = Pusher { lang: "de".into(), ..pusher("app", URL) };
    f.run(f.users.set_pusher(&session, renamed, false)).unwrap();
    let kept = f.users.pushers(session.user).unwrap();
    assert_eq!(kept.iter().map(|kept| &*kept.pusher.lang).collect::<Vec<_>>(), ["de"]);
    assert_eq!((&*kept[0].device_id, kept[0].set_at_ms), ("A", 1_700_000_000_000));
    assert_eq!(f.users.users_with_pushers().unwrap(), [session.user]);
    f.run(f.users.delete_pusher(session.user, "app", "key")).unwrap();
    assert!(f.users.pushers(session.user).unwrap().is_empty());
}

#[test]
fn a_phone_that_changes_hands_pushes_for_its_new_user_only() {
    let f = Fixture::new();
    let (alice, bob) = (f.session("alice", "A"), f.session("bob", "B"));
    f.run(f.users.set_pusher(&alice, pusher("app", URL), false)).unwrap();
    f.run(f.users.set_pusher(&bob, pusher("app", URL), true)).unwrap();
    assert_eq!(f.users.pushers(alice.user).unwrap().len(), 1, "append leaves the others");
    f.run(f.users.set_pusher(&bob, pusher("app", URL), false)).unwrap();
    assert!(f.users.pushers(alice.user).unwrap().is_empty());
    assert_eq!(f.users.pushers(bob.user).unwrap().len(), 1);
}

#[test]
fn a_pusher_can_point_at_push_gateways_only() {
    let f = Fixture::new();
    let session = f.session("alice", "A");
    for url in [
        "https://example.org/",
        "https:///_matrix/push/v1/notify",
        "https://a@b/_matrix/push/v1/notify",
        "ftp://example.org/_matrix/push/v1/notify",
        "/_matrix/push/v1/notify",
        "",
    ] {
        let refused = f.run(f.users.set_pusher(&session, pusher("app", url), false));
        assert!(matches!(refused, Err(UserError::InvalidParam(_))), "{url}");
    }
    let long = "a".repeat(65);
    assert!(f.run(f.users.set_pusher(&session, pusher(&long, URL), false)).is_err());
    let email = Pusher { kind: "email".into(), ..pusher("app", URL) };
    assert!(f.run(f.users.set_pusher(&session, email, false)).is_err());
}

#[test]
fn no_pusher_outlives_its_device() {
    let f = Fixture::new();
    for _ in 0..50 {
        let session = f.session("alice", "A");
        std::thread::scope(|scope| {
            let setting =
                scope.spawn(|| crate::fixture::block_on(f.users.set_pusher(&session, pusher("app", URL), true)));
            crate::fixture::block_on(f.users.delete_device(session.user, "A")).unwrap();
            let set = setting.join().unwrap();
            assert!(matches!(set, Ok(()) | Err(UserError::UnknownToken { .. })));
        });
        assert!(f.users.pushers(session.user).unwrap().is_empty());
    }
}

#[test]
fn a_pusher_that_is_switched_off_from_elsewhere_stays_with_its_device() {
    let f = Fixture::new();
    let (phone, laptop) = (f.session("alice", "PHONE"), f.session("alice", "LAPTOP"));
    f.run(f.users.set_pusher(&phone, pusher("app", URL), false)).unwrap();
    assert!(f.users.pusher(phone.user, "app", "key").unwrap().unwrap().pusher.is_enabled());
    let off = Pusher { enabled: Some(false), ..pusher("app", URL) };
    f.run(f.users.set_pusher(&laptop, off, false)).unwrap();
    let kept = f.users.pusher(phone.user, "app", "key").unwrap().unwrap();
    assert_eq!((kept.pusher.is_enabled(), &*kept.device_id), (false, "PHONE"));
    f.run(f.users.set_pusher(&laptop, pusher("app", URL), false)).unwrap();
    assert_eq!(&*f.users.pusher(phone.user, "app", "key").unwrap().unwrap().device_id, "LAPTOP");
}

#[test]
fn the_number_of_pushers_is_bounded() {
    let f = Fixture::new();
    let session = f.session("alice", "A");
    for number in 0..MAX_PUSHERS {
        f.run(f.users.set_pusher(&session, pusher(&number.to_string(), URL), false)).unwrap();
    }
    let refused = f.run(f.users.set_pusher(&session, pusher("more", URL), false));
    assert!(matches!(refused, Err(UserError::TooLarge(_))));
    f.run(f.users.set_pusher(&session, pusher("7", URL), false)).unwrap();
}

#[test]
fn the_number_of_pushers_is_bounded_also_when_many_are_set_at_once() {
    let f = Fixture::new();
    let session = f.session("alice", "A");
    let setting =
        (0..MAX_PUSHERS + 5).map(|number| f.users.set_pusher(&session, pusher(&number.to_string(), URL), true));
    let set = f.run(futures_util::future::join_all(setting));
    assert_eq!(set.iter().filter(|set| set.is_err()).count(), 5);
    assert_eq!(f.users.pushers(session.user).unwrap().len(), MAX_PUSHERS);
}
