use std::sync::atomic::{AtomicUsize, Ordering};

use rooms::Membership;
use serde_json::{Map, json, value::RawValue};

use super::*;
use crate::remote_devices::tests::{BOB, Shared, device_keys, id, object, server};
use crate::{RemoteAnswer, ToDeviceMessages};

/// Other servers: `remote.example` answers, `down.example` fails, `mute.example` never answers.
#[derive(Default)]
struct Others {
    queries: AtomicUsize,
    lists: AtomicUsize,
}

impl Others {
    fn counts(&self) -> (usize, usize) {
        (self.queries.load(Ordering::Relaxed), self.lists.load(Ordering::Relaxed))
    }

    async fn reach(server: &str) -> Result<(), UserError> {
        match server {
            "remote.example" => Ok(()),
            "mute.example" => std::future::pending().await,
            _ => Err(UserError::RemoteUnavailable(server.to_owned())),
        }
    }
}

impl RemoteUsers for Others {
    fn query_keys<'a>(
        &'a self,
        server: &'a ServerName,
        users: WantedDevices,
        _: Duration,
    ) -> RemoteAnswer<'a, QueriedKeys> {
        Box::pin(async move {
            Self::reach(server.as_str()).await?;
            self.queries.fetch_add(1, Ordering::Relaxed);
            let devices = users.into_keys().map(|user| {
                let keys = device_keys(user.as_str(), "Q", "queried");
                (user, BTreeMap::from([("Q".to_owned(), keys)]))
            });
            Ok(QueriedKeys { device_keys: devices.collect(), ..QueriedKeys::default() })
        })
    }

    fn claim_keys<'a>(
        &'a self,
        server: &'a ServerName,
        wanted: BTreeMap<UserId, BTreeMap<String, String>>,
        _: Duration,
    ) -> RemoteAnswer<'a, ClaimedKeys> {
        Box::pin(async move {
            Self::reach(server.as_str()).await?;
            Ok(wanted.into_keys().map(|user| (user, BTreeMap::new())).collect())
        })
    }

    fn profile<'a>(&'a self, _: &'a UserId, _: Option<&'a str>) -> RemoteAnswer<'a, Map<String, Value>> {
        Box::pin(async { Ok(Map::new()) })
    }

    fn send_to_device<'a>(
        &'a self,
        _: &'a UserId,
        _: &'a str,
        _: &'a str,
        _: ToDeviceMessages,
    ) -> RemoteAnswer<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn user_devices<'a>(&'a self, user: &'a UserId) -> RemoteAnswer<'a, Box<RawValue>> {
        Box::pin(async move {
            Self::reach(user.server_name()).await?;
            self.lists.fetch_add(1, Ordering::Relaxed);
            let devices = [json!({"device_id": "L", "keys": device_keys(user.as_str(), "L", "listed")})];
            let answer = json!({"user_id": user, "stream_id": 50, "devices": devices});
            Ok(serde_json::value::to_raw_value(&answer).unwrap())
        })
    }
}

fn wanted(users: &[&str]) -> WantedDevices {
    users.iter().map(|user| (id(user), Vec::new())).collect()
}

fn query(s: &Shared, others: &Others, users: &[&str]) -> (Vec<String>, Vec<String>) {
    let asked = s.f.users.query_keys_everywhere(others, s.alice, wanted(users), Duration::from_secs(10));
    let (found, failures) = s.f.run(asked).unwrap();
    let mut devices = Vec::new();
    for (user, list) in found.device_keys {
        devices.extend(list.into_keys().map(|device| format!("{user} {device}")));
    }
    (devices, failures.into_iter().map(|server| server.as_str().to_owned()).collect())
}

#[test]
fn lists_of_those_who_share_a_room_are_asked_for_once() {
    let (s, others) = (Shared::new(), Others::default());
    for _ in 0..3 {
        let (devices, failures) = query(&s, &others, &[BOB]);
        assert_eq!((devices, failures.len()), (vec![format!("{BOB} Q")], 0));
    }
    assert_eq!(others.counts(), (1, 0));
    let gap = json!({"user_id": BOB, "device_id": "X", "stream_id": 9, "prev_id": [8]});
    s.f.run(s.f.users.receive_device_list_update(&server("remote.example"), object(gap))).unwrap();
    for _ in 0..3 {
        assert_eq!(query(&s, &others, &[BOB]).0, [format!("{BOB} L")]);
    }
    assert_eq!(others.counts(), (1, 1), "a stale list is fetched with its version");
}

#[test]
fn strangers_are_asked_about_each_time() {
    let (s, others) = (Shared::new(), Others::default());
    for _ in 0..2 {
        assert_eq!(query(&s, &others, &["@zoe:remote.example"]).0, ["@zoe:remote.example Q"]);
    }
    assert_eq!(others.counts(), (2, 0));
    s.f.set_membership(&s.room, &id(BOB), Membership::Leave);
    query(&s, &others, &[BOB]);
    query(&s, &others, &[BOB]);
    assert_eq!(others.counts(), (4, 0));
}

#[test]
fn requests_at_the_same_time_fetch_once() {
    let (s, others) = (Shared::new(), Others::default());
    let ask = || s.f.users.query_keys_everywhere(&others, s.alice, wanted(&[BOB]), Duration::from_secs(10));
    let answers = s.f.run(future::join_all((0..8).map(|_| ask())));
    assert!(answers.into_iter().all(|answer| answer.unwrap().0.device_keys.contains_key(&id(BOB))));
    assert_eq!(others.counts(), (1, 0));
}

#[test]
fn servers_that_fail_are_named_and_the_others_are_not_held_up() {
    let (s, others) = (Shared::new(), Others::default());
    s.f.set_membership(&s.room, &id("@dan:down.example"), Membership::Join);
    s.f.session("alice", "PHONE");
    let users = ["@alice:example.org", BOB, "@dan:down.example", "@eve:down.example", "@mia:mute.example"];
    let asked = s.f.users.query_keys_everywhere(&others, s.alice, wanted(&users), Duration::from_secs(10));
    let (found, failures) = s.f.run(async {
        let (answer, ()) = future::join(asked, async {
            tokio::time::sleep(Duration::from_millis(30)).await;
            s.f.clock.advance(Duration::from_secs(10));
        })
        .await;
        answer.unwrap()
    });
    let names: Vec<_> = found.device_keys.keys().map(UserId::as_str).collect();
    assert_eq!(names, ["@alice:example.org", BOB]);
    assert_eq!(failures, BTreeSet::from([server("down.example"), server("mute.example")]));
}

#[test]
fn claims_go_to_each_server() {
    let (s, others) = (Shared::new(), Others::default());
    let wish = |user: &str| (id(user), BTreeMap::from([("D".to_owned(), "signed_curve25519".to_owned())]));
    let wanted = BTreeMap::from([wish(BOB), wish("@dan:down.example")]);
    let claimed = s.f.users.claim_keys_everywhere(&others, wanted, Duration::from_secs(10));
    let (claimed, failures) = s.f.run(claimed).unwrap();
    assert_eq!(claimed.keys().map(UserId::as_str).collect::<Vec<_>>(), [BOB]);
    assert_eq!(failures, BTreeSet::from([server("down.example")]));
}

#[test]
fn only_the_devices_asked_for_are_told() {
    let (s, others) = (Shared::new(), Others::default());
    for devices in [vec!["NONE".to_owned()], vec!["Q".to_owned()]] {
        let expected = usize::from(devices == ["Q"]);
        let wanted = BTreeMap::from([(id(BOB), devices)]);
        let asked = s.f.users.query_keys_everywhere(&others, s.alice, wanted, Duration::from_secs(10));
        assert_eq!(s.f.run(asked).unwrap().0.device_keys[&id(BOB)].len(), expected);
    }
}
