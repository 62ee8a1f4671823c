use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{AccountFlags, fixture::Fixture};

fn names(page: &AccountPage) -> Vec<&str> {
    page.accounts.iter().map(|entry| entry.account.user_id.localpart()).collect()
}

fn all() -> AccountQuery {
    AccountQuery { limit: 100, ..AccountQuery::default() }
}

#[test]
fn accounts_are_found_by_name_role_and_flags() {
    let f = Fixture::new();
    for name in ["anna", "bert", "carla"] {
        f.account(name);
    }
    let user = |name: &str| f.users.account_by_id(&f.users.parse_local_user(name).unwrap()).unwrap().unwrap().user;
    let find = |query: AccountQuery| f.users.find_accounts(&query).unwrap();
    assert_eq!(names(&find(all())), ["anna", "bert", "carla"]);
    f.run(f.users.set_profile_field(user("bert"), "displayname", Some(json!("Big ANNA")))).unwrap();
    assert_eq!(names(&find(AccountQuery { name: Some("Anna".into()), ..all() })), ["anna", "bert"]);
    assert_eq!(names(&find(AccountQuery { user_id: Some("@anna".into()), ..all() })), ["anna"]);
    f.run(f.users.set_role(user("carla"), Role::Moderator)).unwrap();
    assert_eq!(names(&find(AccountQuery { role: Some(Role::Moderator), ..all() })), ["carla"]);
    let locked = AccountFlags { locked: Some(true), ..AccountFlags::default() };
    f.run(f.users.set_account_flags(user("anna"), locked)).unwrap();
    assert_eq!(names(&find(AccountQuery { locked: Some(true), ..all() })), ["anna"]);
    f.run(f.users.change_facts(user("bert"), |facts| facts.user_type = Some("bot".into()))).unwrap();
    assert_eq!(names(&find(AccountQuery { not_user_types: vec![None], ..all() })), ["bert"]);
    assert_eq!(names(&find(AccountQuery { not_user_types: vec![Some("bot".into())], ..all() })), ["anna", "carla"]);
    f.run(f.users.change_facts(user("bert"), |facts| facts.is_shadow_banned = true)).unwrap();
    assert_eq!(names(&find(AccountQuery { shadow_banned: Some(true), ..all() })), ["bert"]);
    f.run(f.users.deactivate(user("anna"))).unwrap();
    assert_eq!(names(&find(AccountQuery { deactivated: Some(false), ..all() })), ["bert", "carla"]);
    f.account("dora");
    assert_eq!(names(&find(AccountQuery { deactivated: Some(false), ..all() })), ["bert", "carla", "dora"]);
}

#[test]
fn pages_follow_each_other_in_every_order() {
    let f = Fixture::new();
    for name in ["c", "a", "b"] {
        f.account(name);
        f.clock.advance(Duration::from_secs(1));
    }
    let page = |order, reverse, from| {
        let query = AccountQuery { order, reverse, from, limit: 2, ..AccountQuery::default() };
        f.users.find_accounts(&query).unwrap()
    };
    let first = page(AccountOrder::Created, false, 0);
    assert_eq!((names(&first), first.total, first.next), (vec!["c", "a"], 3, Some(2)));
    let second = page(AccountOrder::Created, false, 2);
    assert_eq!((names(&second), second.next), (vec!["b"], None));
    assert_eq!(names(&page(AccountOrder::Name, true, 0)), ["c", "b"]);
    assert_eq!(names(&page(AccountOrder::Name, false, 9)), Vec::<&str>::new());
    let session = f.session("a", "PHONE");
    f.run(f.users.record_device_seen(&session, Some("192.0.2.1"), None)).unwrap();
    assert_eq!(names(&page(AccountOrder::LastSeen, true, 0)), ["a", "c"]);
}

#[test]
fn accounts_are_read_ahead_where_they_are_few() {
    let f = Fixture::new();
    for name in ["anna", "bert", "carla"] {
        f.account(name);
    }
    let is_read = || f.users.inner.account_column.entries.lock().is_some();
    f.users.read_accounts_ahead(2).unwrap();
    assert!(!is_read());
    f.users.read_accounts_ahead(3).unwrap();
    assert!(is_read());
    f.account("dora");
    assert_eq!(names(&f.users.find_accounts(&all()).unwrap()), ["anna", "bert", "carla", "dora"]);
}

/// Says how long a page of 10,000 accounts takes; see `--nocapture`.
#[test]
fn ten_thousand_accounts_are_listed_completely() {
    let f = Fixture::new();
    for number in 0..10_000 {
        f.account(&format!("user{number:05}"));
    }
    let clock = runtime::Clock::system();
    let timed = |what: &str, query: AccountQuery| {
        let start = clock.monotonic();
        let page = f.users.find_accounts(&query).unwrap();
        println!("{what}: {:?} for {} of {}", clock.monotonic() - start, page.accounts.len(), page.total);
        page
    };
    assert_eq!(timed("first listing", all()).total, 10_000);
    assert_eq!(timed("page by name", AccountQuery { from: 5_000, ..all() }).accounts.len(), 100);
    let newest = timed("newest first", AccountQuery { order: AccountOrder::Created, reverse: true, ..all() });
    assert_eq!(newest.accounts.len(), 100);
    let found = timed("by a part of the name", AccountQuery { name: Some("r0999".into()), ..all() });
    assert_eq!(found.total, 10);
    f.account("one-more");
    assert_eq!(timed("after a change", all()).total, 10_001);
}

#[test]
fn users_that_are_the_server_are_not_listed() {
    let f = Fixture::with_config(crate::UsersConfig { admin_localpart: Some("server".into()), ..Default::default() });
    f.account("anna");
    f.run(f.users.ensure_server_user("server", Some("The server"), None)).unwrap();
    let page = f.users.find_accounts(&all()).unwrap();
    assert_eq!((names(&page), page.total), (vec!["anna"], 1));
}
