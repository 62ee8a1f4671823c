use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use spec::signing::{SigningKey, signed_bytes};

use super::*;
use crate::{KeyUpload, Session, fixture::Fixture};

/// A key pair by number; the same number gives the same pair.
fn pair(number: u8) -> SigningKey {
    SigningKey::from_seed([number; 32], "x").unwrap()
}

fn sign(object: &mut Object, user: &str, signer: &SigningKey, key_id: &str) {
    let signature = signer.sign(&signed_bytes(object));
    let signatures = object.entry("signatures").or_insert_with(|| json!({}));
    signatures[user][format!("ed25519:{key_id}")] = Value::String(signature);
}

fn cross_key(user: &str, usage: &str, number: u8) -> Object {
    let public = pair(number).public_base64();
    let key = json!({ "user_id": user, "usage": [usage], "keys": { format!("ed25519:{public}"): public } });
    key.as_object().unwrap().clone()
}

fn signed_by_master(user: &str, usage: &str, number: u8, master: u8) -> Object {
    let mut key = cross_key(user, usage, number);
    sign(&mut key, user, &pair(master), &pair(master).public_base64());
    key
}

fn full_upload(user: &str, base: u8) -> CrossSigningUpload {
    CrossSigningUpload {
        master_key: Some(cross_key(user, "master", base)),
        self_signing_key: Some(signed_by_master(user, "self_signing", base + 1, base)),
        user_signing_key: Some(signed_by_master(user, "user_signing", base + 2, base)),
    }
}

fn device_keys(session: &Session, number: u8) -> Object {
    let device_id = &*session.device_id;
    let key = json!({
        "user_id": session.user_id, "device_id": device_id, "algorithms": ["m.olm.v1"],
        "keys": { format!("ed25519:{device_id}"): pair(number).public_base64() }
    });
    key.as_object().unwrap().clone()
}

fn upload_device(f: &Fixture, session: &Session, number: u8) {
    let upload = KeyUpload { device_keys: Some(device_keys(session, number)), ..KeyUpload::default() };
    f.run(f.users.upload_keys(session, &upload)).unwrap();
}

fn alice(f: &Fixture) -> Arc<Session> {
    f.session("alice", "D")
}

#[test]
fn only_a_change_of_existing_keys_needs_authentication() {
    let f = Fixture::new();
    let a = alice(&f);
    let upload = full_upload(a.user_id.as_str(), 1);
    assert!(!f.users.needs_auth_for_cross_signing(a.user, &upload).unwrap());
    f.run(f.users.upload_cross_signing(a.user, &upload)).unwrap();
    assert!(!f.users.needs_auth_for_cross_signing(a.user, &upload).unwrap());
    assert!(f.users.needs_auth_for_cross_signing(a.user, &full_upload(a.user_id.as_str(), 5)).unwrap());
}

#[test]
fn keys_are_checked_before_they_are_stored() {
    let f = Fixture::new();
    let a = alice(&f);
    let user = a.user_id.as_str();
    let without_master = CrossSigningUpload {
        self_signing_key: Some(signed_by_master(user, "self_signing", 2, 1)),
        ..Default::default()
    };
    assert!(matches!(f.run(f.users.upload_cross_signing(a.user, &without_master)), Err(UserError::MissingParam(_))));
    let mut wrong_signer = full_upload(user, 1);
    wrong_signer.self_signing_key = Some(signed_by_master(user, "self_signing", 2, 9));
    assert!(matches!(f.run(f.users.upload_cross_signing(a.user, &wrong_signer)), Err(UserError::InvalidSignature(_))));
    let mut unsigned = full_upload(user, 1);
    unsigned.user_signing_key = Some(cross_key(user, "user_signing", 3));
    assert!(matches!(f.run(f.users.upload_cross_signing(a.user, &unsigned)), Err(UserError::InvalidSignature(_))));
    let other_user = full_upload("@bob:example.org", 1);
    assert!(matches!(f.run(f.users.upload_cross_signing(a.user, &other_user)), Err(UserError::InvalidParam(_))));
    let wrong_usage = CrossSigningUpload { master_key: Some(cross_key(user, "self_signing", 1)), ..Default::default() };
    assert!(matches!(f.run(f.users.upload_cross_signing(a.user, &wrong_usage)), Err(UserError::InvalidParam(_))));
    assert!(!f.users.has_cross_signing(a.user).unwrap());
}

#[test]
fn device_ids_and_cross_signing_keys_do_not_collide() {
    let f = Fixture::new();
    let public = pair(1).public_base64();
    let a = f.session("alice", &public);
    let refused = f.run(f.users.upload_cross_signing(a.user, &full_upload(a.user_id.as_str(), 1)));
    assert!(matches!(refused, Err(UserError::Forbidden(_))));
    let b = f.session("bob", "D");
    f.run(f.users.upload_cross_signing(b.user, &full_upload(b.user_id.as_str(), 1))).unwrap();
    let login = crate::DeviceLogin { device_id: Some(&public), ..Default::default() };
    assert!(matches!(f.run(f.users.start_session(b.user, login)), Err(UserError::InvalidParam(_))));
}

#[test]
fn a_new_master_key_takes_unsigned_keys_away() {
    let f = Fixture::new();
    let a = alice(&f);
    let user = a.user_id.as_str();
    f.run(f.users.upload_cross_signing(a.user, &full_upload(user, 1))).unwrap();
    let master = CrossSigningUpload { master_key: Some(cross_key(user, "master", 7)), ..Default::default() };
    f.run(f.users.upload_cross_signing(a.user, &master)).unwrap();
    let wanted = BTreeMap::from([(a.user_id.clone(), Vec::new())]);
    let found = f.users.query_keys(Some(a.user), &wanted).unwrap();
    assert_eq!(found.master_keys.len(), 1);
    assert!(found.self_signing_keys.is_empty() && found.user_signing_keys.is_empty());
}

#[test]
fn the_user_signing_key_and_its_signatures_are_for_its_owner_only() {
    let f = Fixture::new();
    let (a, b) = (alice(&f), f.session("bob", "D"));
    let (alice_id, bob_id) = (a.user_id.as_str(), b.user_id.as_str());
    f.run(f.users.upload_cross_signing(a.user, &full_upload(alice_id, 1))).unwrap();
    f.run(f.users.upload_cross_signing(b.user, &full_upload(bob_id, 11))).unwrap();
    let since = f.store.visible();

    let mut bob_master = cross_key(bob_id, "master", 11);
    sign(&mut bob_master, alice_id, &pair(3), &pair(3).public_base64());
    let bob_public = pair(11).public_base64();
    let upload = BTreeMap::from([(b.user_id.clone(), BTreeMap::from([(bob_public, bob_master)]))]);
    assert!(f.run(f.users.upload_signatures(a.user, &upload)).unwrap().is_empty());

    let wanted = BTreeMap::from([(b.user_id.clone(), Vec::new()), (a.user_id.clone(), Vec::new())]);
    let sees_signature = |viewer| {
        let found = f.users.query_keys(viewer, &wanted).unwrap();
        found.master_keys[&b.user_id].get("signatures").and_then(|s| s.get(alice_id)).is_some()
    };
    assert!(sees_signature(Some(a.user)));
    assert!(!sees_signature(Some(b.user)));
    assert!(!sees_signature(None));
    let found = f.users.query_keys(Some(b.user), &wanted).unwrap();
    assert_eq!(found.user_signing_keys.keys().collect::<Vec<_>>(), [&b.user_id]);

    let until = f.store.visible();
    assert_eq!(f.users.users_with_changed_devices(a.user, since, until).unwrap(), [b.user]);
    assert!(f.users.users_with_changed_devices(b.user, since, until).unwrap().is_empty());
}

#[test]
fn devices_are_signed_by_the_self_signing_key_and_the_master_key_by_devices() {
    let f = Fixture::new();
    let a = alice(&f);
    let user = a.user_id.as_str();
    upload_device(&f, &a, 20);
    f.run(f.users.upload_cross_signing(a.user, &full_upload(user, 1))).unwrap();
    let mut device = device_keys(&a, 20);
    sign(&mut device, user, &pair(2), &pair(2).public_base64());
    let mut master = cross_key(user, "master", 1);
    sign(&mut master, user, &pair(20), "D");
    let master_public = pair(1).public_base64();
    let keys = BTreeMap::from([("D".to_owned(), device), (master_public, master)]);
    let upload = BTreeMap::from([(a.user_id.clone(), keys)]);
    assert!(f.run(f.users.upload_signatures(a.user, &upload)).unwrap().is_empty());
    let found = f.users.query_keys(None, &BTreeMap::from([(a.user_id.clone(), Vec::new())])).unwrap();
    let self_signing = format!("ed25519:{}", pair(2).public_base64());
    assert!(found.device_keys[&a.user_id]["D"]["signatures"][user].get(&self_signing).is_some());
    assert!(found.master_keys[&a.user_id]["signatures"][user].get("ed25519:D").is_some());
}

#[test]
fn each_bad_signature_is_named_and_the_good_ones_are_kept() {
    let f = Fixture::new();
    let a = alice(&f);
    let user = a.user_id.as_str();
    upload_device(&f, &a, 20);
    f.run(f.users.upload_cross_signing(a.user, &full_upload(user, 1))).unwrap();
    let mut good = device_keys(&a, 20);
    sign(&mut good, user, &pair(2), &pair(2).public_base64());
    let mut forged = cross_key(user, "master", 1);
    sign(&mut forged, user, &pair(99), "D");
    let unknown = device_keys(&a, 20);
    let keys =
        BTreeMap::from([("D".to_owned(), good), (pair(1).public_base64(), forged), ("GONE".to_owned(), unknown)]);
    let failures = f.run(f.users.upload_signatures(a.user, &BTreeMap::from([(a.user_id.clone(), keys)]))).unwrap();
    let failures = &failures[&a.user_id];
    assert_eq!(failures.len(), 2);
    assert_eq!(failures[&pair(1).public_base64()].errcode, "M_INVALID_SIGNATURE");
    assert_eq!(failures["GONE"].errcode, "M_NOT_FOUND");

    let mut changed = device_keys(&a, 20);
    changed.insert("algorithms".to_owned(), json!(["m.evil"]));
    sign(&mut changed, user, &pair(2), &pair(2).public_base64());
    let upload = BTreeMap::from([(a.user_id.clone(), BTreeMap::from([("D".to_owned(), changed)]))]);
    assert_eq!(f.run(f.users.upload_signatures(a.user, &upload)).unwrap().len(), 1);
}
