use rooms::RoomSeq;

use super::*;
use crate::fixture::Fixture;

#[test]
fn what_the_user_said_wins_over_what_a_client_does() {
    let f = Fixture::new();
    let user = f.account("alice").user;
    let room = RoomNid(1);
    let subscribe = |cause: Option<i64>| f.run(f.users.subscribe_to_thread(user, room, "$root", cause.map(RoomSeq)));
    let get = || f.users.thread_subscription(user, room, "$root").unwrap();
    let unsubscribe = |newest| f.run(f.users.unsubscribe_from_thread(user, room, "$root", RoomSeq(newest))).unwrap();
    // Unsubscribing from what one does not follow leaves no trace.
    unsubscribe(5);
    assert!(subscribe(Some(4)).unwrap());
    assert_eq!(get(), Some(true));
    assert!(subscribe(None).unwrap());
    assert_eq!(get(), Some(false));
    // A client does not turn what the user wants into its own doing.
    assert!(subscribe(Some(6)).unwrap());
    assert_eq!(get(), Some(false));
    unsubscribe(7);
    assert_eq!(get(), None);
    assert!(!subscribe(Some(6)).unwrap());
    assert!(!subscribe(Some(7)).unwrap());
    assert_eq!(get(), None);
    assert!(subscribe(Some(8)).unwrap());
    assert_eq!(get(), Some(true));
    // The user may at any time.
    unsubscribe(9);
    assert!(subscribe(None).unwrap());
    assert_eq!(get(), Some(false));
}

#[test]
fn changes_are_told_once_newest_first_and_in_pages() {
    let f = Fixture::new();
    let (user, other) = (f.account("alice").user, f.account("bob").user);
    let start = f.store.visible();
    for root in ["$a", "$b", "$c", "$a"] {
        f.run(f.users.unsubscribe_from_thread(user, RoomNid(1), root, RoomSeq(1))).unwrap();
        f.run(f.users.subscribe_to_thread(user, RoomNid(1), root, None)).unwrap();
    }
    f.run(f.users.subscribe_to_thread(other, RoomNid(1), "$other", None)).unwrap();
    let read = |after, until, limit, followed_only| {
        let range = SubscriptionRange { after, until, limit, followed_only };
        f.users.thread_subscription_changes(user, range).unwrap()
    };
    let roots = |changes: &[ThreadSubscription]| changes.iter().map(|one| one.root.clone()).collect::<Vec<_>>();
    let end = f.store.visible();
    let (all, more) = read(start, end, 10, false);
    assert_eq!((roots(&all), more), (vec!["$a".to_owned(), "$c".into(), "$b".into()], false));
    let (first, more) = read(start, end, 2, false);
    assert_eq!((roots(&first), more), (vec!["$a".to_owned(), "$c".into()], true));
    let (rest, more) = read(start, StreamPos(first[1].pos.0 - 1), 2, false);
    assert_eq!((roots(&rest), more), (vec!["$b".to_owned()], false));
    assert!(read(all[0].pos, end, 10, false).0.is_empty());
    f.run(f.users.unsubscribe_from_thread(user, RoomNid(1), "$b", RoomSeq(2))).unwrap();
    let end = f.store.visible();
    assert_eq!(roots(&read(start, end, 10, true).0), ["$a", "$c"]);
    let (changed, _) = read(all[0].pos, end, 10, false);
    assert_eq!((roots(&changed), changed[0].automatic), (vec!["$b".to_owned()], None));
}
