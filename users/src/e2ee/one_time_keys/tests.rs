use std::{collections::HashSet, thread};

use proptest::prelude::*;
use serde_json::json;

use crate::{
    KeyUpload, Session, UserError,
    fixture::{Fixture, block_on},
};

const ALGORITHM: &str = "signed_curve25519";

fn keys(ids: impl IntoIterator<Item = u32>) -> KeyUpload {
    let keys: serde_json::Map<_, _> =
        ids.into_iter().map(|id| (format!("{ALGORITHM}:{id:03}"), json!({ "key": id }))).collect();
    serde_json::from_value(json!({ "one_time_keys": keys })).unwrap()
}

fn fallback(id: &str) -> KeyUpload {
    serde_json::from_value(json!({ "fallback_keys": { format!("{ALGORITHM}:{id}"): { "key": id } } })).unwrap()
}

fn count(f: &Fixture, session: &Session) -> u64 {
    f.users.key_counts(session.device).unwrap().one_time_keys.get(ALGORITHM).copied().unwrap_or(0)
}

fn claim(f: &Fixture, session: &Session) -> Option<String> {
    f.run(f.users.claim_key(session.device, ALGORITHM)).unwrap().map(|(name, _)| name)
}

#[test]
fn keys_are_claimed_once_in_order_of_upload() {
    let f = Fixture::new();
    let session = f.session("alice", "D");
    f.run(f.users.upload_keys(&session, &keys([9]))).unwrap();
    f.run(f.users.upload_keys(&session, &keys([1, 2]))).unwrap();
    assert_eq!(count(&f, &session), 3);
    let claimed: Vec<_> = (0..4).map(|_| claim(&f, &session)).collect();
    let name = |id: &str| Some(format!("{ALGORITHM}:{id}"));
    assert_eq!(claimed, [name("009"), name("001"), name("002"), None]);
    assert_eq!(count(&f, &session), 0);
}

#[test]
fn the_same_key_again_is_fine_and_another_under_its_id_is_not() {
    let f = Fixture::new();
    let session = f.session("alice", "D");
    f.run(f.users.upload_keys(&session, &keys([1]))).unwrap();
    f.run(f.users.upload_keys(&session, &keys([1, 2]))).unwrap();
    assert_eq!(count(&f, &session), 2);
    let other: KeyUpload = serde_json::from_value(json!({
        "one_time_keys": { "signed_curve25519:001": { "key": "other" }, "signed_curve25519:003": { "key": 3 } }
    }))
    .unwrap();
    let refused = f.run(f.users.upload_keys(&session, &other));
    assert!(matches!(refused, Err(UserError::InvalidParam(_))));
    assert_eq!(count(&f, &session), 2, "nothing of a refused upload is kept");
}

#[test]
fn the_fallback_key_serves_when_none_is_left_and_is_marked_used() {
    let f = Fixture::new();
    let session = f.session("alice", "D");
    f.run(f.users.upload_keys(&session, &keys([1]))).unwrap();
    let counts = f.run(f.users.upload_keys(&session, &fallback("F"))).unwrap();
    assert_eq!(counts.unused_fallback_types, [ALGORITHM]);
    assert_eq!(claim(&f, &session).as_deref(), Some("signed_curve25519:001"));
    for _ in 0..2 {
        assert_eq!(claim(&f, &session).as_deref(), Some("signed_curve25519:F"));
        assert!(f.users.key_counts(session.device).unwrap().unused_fallback_types.is_empty());
    }
    let same = f.run(f.users.upload_keys(&session, &fallback("F"))).unwrap();
    assert!(same.unused_fallback_types.is_empty(), "the same key again stays used");
    let new = f.run(f.users.upload_keys(&session, &fallback("G"))).unwrap();
    assert_eq!(new.unused_fallback_types, [ALGORITHM]);
}

#[test]
fn bad_names_and_keys_are_refused() {
    let f = Fixture::new();
    let session = f.session("alice", "D");
    for body in [
        json!({ "one_time_keys": { "noid": {} } }),
        json!({ "one_time_keys": { "a:": {} } }),
        json!({ "one_time_keys": { ":b": {} } }),
        json!({ "one_time_keys": { "a:b": 5 } }),
        json!({ "fallback_keys": { "a:b": null } }),
        json!({ "device_keys": { "user_id": "@bob:example.org", "device_id": "D", "algorithms": [], "keys": {} } }),
        json!({ "device_keys": { "user_id": "@alice:example.org", "device_id": "E", "algorithms": [], "keys": {} } }),
        json!({ "device_keys": { "user_id": "@alice:example.org", "device_id": "D", "algorithms": [] } }),
    ] {
        let upload: KeyUpload = serde_json::from_value(body.clone()).unwrap();
        assert!(f.run(f.users.upload_keys(&session, &upload)).is_err(), "{body}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// However many ask at once: no key is given out twice, none is lost, and the counter agrees.
    #[test]
    fn racing_claims_get_different_keys(uploads in 0_u32..24, claimers in 1_usize..6, each in 1_usize..6) {
        let f = Fixture::new();
        let session = f.session("alice", "D");
        f.run(f.users.upload_keys(&session, &keys(0..uploads))).unwrap();
        let claimed: Vec<String> = thread::scope(|scope| {
            let threads: Vec<_> = (0..claimers)
                .map(|_| {
                    let users = f.users.clone();
                    let device = session.device;
                    scope.spawn(move || {
                        let claim = || block_on(users.claim_key(device, ALGORITHM)).unwrap();
                        (0..each).filter_map(|_| claim()).map(|(name, _)| name).collect::<Vec<_>>()
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let expected = (uploads as usize).min(claimers * each);
        prop_assert_eq!(claimed.len(), expected);
        prop_assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), expected);
        prop_assert_eq!(count(&f, &session) as usize, uploads as usize - expected);
    }
}
