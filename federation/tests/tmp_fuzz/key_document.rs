// Documents with keys: what was not signed with its own keys is not believed; what is kept of one reads back the same.

use federation::fuzzing::read_key_document;
use serde_json::{Map, Value, json};
use spec::{canonical::parse_object, signing::SigningKey};

fuzz_target!(|bytes: &[u8]| {
    // As the body of an answer, and as part of a notary's.
    let _ = serde_json::from_slice::<Map<String, Value>>(bytes).map(check);
    let Ok(mut object) = parse_object(bytes, false) else { return };
    check(object.clone());
    // Signed by us, much more of it is looked at.
    let key = SigningKey::from_seed([7; 32], "fuzz").expect("a key");
    if let Some(keys) = object.get_mut("verify_keys").and_then(Value::as_object_mut) {
        keys.insert(key.key_id().to_owned(), json!({ "key": key.public_base64() }));
    }
    let Some(server) = object.get("server_name").and_then(Value::as_str).map(str::to_owned) else { return };
    object.remove("signatures");
    if key.sign_json(&mut object, &server).is_err() {
        return;
    }
    let read = check(object.clone());
    // With another content the signature is wrong.
    object.insert("added".to_owned(), 1.into());
    let changed = check(object);
    assert!(read.is_none() || changed.is_none(), "one signature for two documents");
});

/// The kept form, if it is believed.
fn check(object: Map<String, Value>) -> Option<Vec<u8>> {
    let (server, keys, kept) = read_key_document(object)?;
    assert!(!keys.is_empty() && keys.len() <= 128);
    for (key_id, _) in &keys {
        assert!(key_id.starts_with("ed25519:") && key_id.len() <= 128, "{key_id}");
    }
    assert!(keys.iter().any(|(_, expired)| expired.is_none()), "only old keys");
    let again = parse_object(&kept, false).expect("the kept form is JSON");
    let (server_again, keys_again, kept_again) = read_key_document(again).expect("what is kept is believed");
    assert_eq!((server_again, keys_again, &kept_again), (server, keys, &kept));
    Some(kept)
}
