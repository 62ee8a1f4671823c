use super::*;
use crate::fixture::Fixture;

fn report(fixture: &Fixture, reporter: UserNid, reason: &str) -> Report {
    Report {
        reporter,
        at_ms: fixture.clock.now_ms(),
        room: None,
        event_id: None,
        user_id: Some("@bad:there.example".to_owned()),
        reason: reason.to_owned(),
        score: None,
    }
}

#[test]
fn reports_are_listed_assigned_answered_and_deleted() {
    let fixture = Fixture::new();
    let (users, alice) = (&fixture.users, fixture.account("alice").user);
    let bob = fixture.account("bob").user;
    let mut news = users.watch_reports();
    let first = fixture.run(users.store_report(&report(&fixture, alice, "rude"))).unwrap();
    let second = fixture.run(users.store_report(&report(&fixture, bob, "spam"))).unwrap();
    assert!(first < second);
    assert_eq!((news.try_recv().unwrap(), news.try_recv().unwrap()), (first, second));
    let list = |filter: ReportFilter, newest_first, from, limit| {
        let page = users.list_reports(&filter, newest_first, from, limit).unwrap();
        (page.items.into_iter().map(|item| item.id).collect::<Vec<_>>(), page.total)
    };
    assert_eq!(list(ReportFilter::default(), true, 0, 10), (vec![second, first], 2));
    assert_eq!(list(ReportFilter::default(), false, 1, 1), (vec![second], 2));
    let by = |part: &str| ReportFilter { reporter: Some(part.to_owned()), ..ReportFilter::default() };
    assert_eq!(list(by("bob"), true, 0, 10), (vec![second], 1));
    fixture.run(users.assign_report(first, Some(bob), "@admin:here.example")).unwrap();
    let state = |word: &str| ReportFilter { state: Some(word.to_owned()), ..ReportFilter::default() };
    assert_eq!(list(state("assigned"), true, 0, 10), (vec![first], 1));
    assert_eq!(list(state("open"), true, 0, 10), (vec![second], 1));
    fixture.run(users.answer_report(first, "warned", "@admin:here.example")).unwrap();
    let closed = users.report(first).unwrap().state;
    assert!(matches!(&closed, ReportState::Closed { note, .. } if note == "warned"), "{closed:?}");
    fixture.run(users.assign_report(first, None, "@admin:here.example")).unwrap();
    assert_eq!(users.report(first).unwrap().state, ReportState::Open);
    assert!(fixture.run(users.delete_report(first)).unwrap());
    assert!(!fixture.run(users.delete_report(first)).unwrap());
    assert!(matches!(users.report(first), Err(UserError::NotFound(_))));
    assert!(matches!(fixture.run(users.answer_report(first, "", "x")), Err(UserError::NotFound(_))));
}

#[test]
fn kinds_rooms_and_bounds() {
    let fixture = Fixture::new();
    let (users, alice) = (&fixture.users, fixture.account("alice").user);
    let of_user = report(&fixture, alice, "");
    let of_event =
        Report { event_id: Some("$gone".to_owned()), user_id: None, room: Some(RoomNid(7)), ..of_user.clone() };
    let of_room = Report { event_id: None, ..of_event.clone() };
    assert_eq!(
        [&of_user, &of_event, &of_room].map(Report::kind),
        [ReportKind::User, ReportKind::Event, ReportKind::Room]
    );
    assert_eq!(users.reported_sender(&of_event).unwrap(), None, "the event is not here any more");
    let long = Report { reason: "x".repeat(MAX_REPORT_TEXT_BYTES + 1), ..of_user.clone() };
    assert!(matches!(fixture.run(users.store_report(&long)), Err(UserError::TooLarge(_))));
    let positive = Report { score: Some(1), ..of_user.clone() };
    assert!(matches!(fixture.run(users.store_report(&positive)), Err(UserError::InvalidParam(_))));
    let id = fixture.run(users.store_report(&of_user)).unwrap();
    let long = "x".repeat(MAX_REPORT_TEXT_BYTES + 1);
    assert!(matches!(fixture.run(users.answer_report(id, &long, "x")), Err(UserError::TooLarge(_))));
}
