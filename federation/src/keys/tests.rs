use std::sync::Arc;

use runtime::Clock;
use serde_json::{Map, Value};
use spec::ids::ServerName;
use spec::signing::{SigningKey, verify_json};

use super::describe_keys;
use crate::FederationParts;

#[test]
fn the_published_key_verifies_its_own_signature() {
    let signing_key = Arc::new(SigningKey::from_seed([3; 32], "a1").unwrap());
    let server_name = ServerName::parse("hs.test:8448").unwrap();
    let parts = FederationParts { server_name, signing_key: signing_key.clone(), clock: Clock::fake(1000) };
    let body = describe_keys(&parts, 1000).unwrap();
    let object: Map<String, Value> = serde_json::from_slice(&body).unwrap();
    verify_json(&object, "hs.test:8448", "ed25519:a1", &signing_key.verify_key()).unwrap();
    assert_eq!(object["verify_keys"]["ed25519:a1"]["key"], signing_key.public_base64());
    assert_eq!(object["valid_until_ts"], 1000 + 24 * 60 * 60 * 1000);
    assert!(object["old_verify_keys"].as_object().unwrap().is_empty());
    assert_eq!(serde_json::to_vec(&object).unwrap(), body, "canonical");
}
