use std::time::Duration;

use rooms::UserNid;
use serde_json::json;
use spec::ids::UserId;

use super::{AuditQuery, Ending, NewRecord};
use crate::caller::{Actor, Caller, Face};
use crate::fixture::Fixture;

fn caller(user: &str) -> Caller {
    Caller::new(Actor::User(UserNid(1), UserId::parse(user).unwrap()), Face::Http)
}

#[tokio::test]
async fn what_begins_is_completed_and_what_repeats_is_counted() {
    let fixture = Fixture::new();
    let (audit, alice) = (fixture.admin.audit(), caller("@alice:us"));
    let arguments = json!({"user": "bob", "reason": null, "erase": false});
    let record = NewRecord { caller: &alice, operation: "user suspend", arguments: &arguments };
    let id = audit.begin(record).await.unwrap();
    let all = || audit.search(&AuditQuery::default(), 10).unwrap().records;
    assert_eq!(all()[0].1.ending, Ending::Begun);
    audit.end(id, Ending::Failed, Some("no".to_owned())).await.unwrap();
    assert_eq!((all().len(), all()[0].1.ending, all()[0].1.message.as_deref()), (1, Ending::Failed, Some("no")));
    assert_eq!(all()[0].1.arguments, r#"{"user":"bob"}"#);

    for _ in 0..3 {
        audit.note(record, Ending::Done, None).await.unwrap();
        fixture.clock.advance(Duration::from_secs(10));
    }
    assert_eq!((all().len(), all()[0].1.count), (2, 3));
    fixture.clock.advance(Duration::from_secs(60));
    audit.note(record, Ending::Done, None).await.unwrap();
    assert_eq!((all().len(), all()[0].1.count), (3, 1));
}

#[tokio::test]
async fn records_are_found_by_everything_and_page_by_page() {
    let fixture = Fixture::new();
    let audit = fixture.admin.audit();
    let start = fixture.clock.now_ms();
    for (user, operation, target) in
        [("@alice:us", "user lock", "bob"), ("@carol:us", "user list", "x"), ("@alice:us", "room block", "!r:us")]
    {
        let (caller, arguments) = (caller(user), json!({"target": target}));
        let record = NewRecord { caller: &caller, operation, arguments: &arguments };
        audit.note(record, Ending::Done, None).await.unwrap();
        fixture.clock.advance(Duration::from_secs(1));
    }
    let find = |query: AuditQuery| -> Vec<String> {
        let page = audit.search(&query, 10).unwrap();
        assert_eq!(page.next, None);
        page.records.into_iter().map(|(_, row)| row.operation).collect()
    };
    let any = AuditQuery::default;
    assert_eq!(find(AuditQuery { who: Some("@alice:us".to_owned()), ..any() }), ["room block", "user lock"]);
    assert_eq!(find(AuditQuery { operation: Some("user".to_owned()), ..any() }), ["user list", "user lock"]);
    assert_eq!(find(AuditQuery { target: Some("!r:us".to_owned()), ..any() }), ["room block"]);
    assert_eq!(find(AuditQuery { target: Some("@bob:us".to_owned()), ..any() }), ["user lock"]);
    assert_eq!(find(AuditQuery { since_ms: Some(start + 1000), until_ms: Some(start + 2000), ..any() }), ["user list"]);
    assert_eq!(find(AuditQuery { ending: Some(Ending::Failed), ..any() }), [""; 0]);

    let first = audit.search(&any(), 2).unwrap();
    assert_eq!(first.records.len(), 2);
    let second = audit.search(&AuditQuery { before: first.next, ..any() }, 2).unwrap();
    assert_eq!((second.records.len(), second.records[0].1.operation.as_str()), (1, "user lock"));
}

#[tokio::test]
async fn a_restart_goes_on_counting_and_old_records_go() {
    let fixture = Fixture::new();
    let alice = caller("@alice:us");
    let arguments = json!({});
    let record = NewRecord { caller: &alice, operation: "a", arguments: &arguments };
    let before = fixture.admin.audit().begin(record).await.unwrap();
    let fixture = fixture.restart().await;
    let record = NewRecord { caller: &alice, operation: "b", arguments: &arguments };
    let after = fixture.admin.audit().begin(record).await.unwrap();
    assert!(after > before);
    fixture.clock.advance(Duration::from_secs(100));
    assert_eq!(fixture.admin.audit().forget_before(fixture.clock.now_ms()).await.unwrap(), 2);
    assert!(fixture.admin.audit().search(&AuditQuery::default(), 10).unwrap().records.is_empty());
}
