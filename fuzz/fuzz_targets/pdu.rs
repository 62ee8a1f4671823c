//! PDUs of every room version: the first byte picks the version, the rest is the event.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spec::{
    canonical::parse_object,
    hash::{event_id, redacted_bytes},
    pdu::{Pdu, ReceivedPdu},
    redact::redact_event,
    signing::SigningKey,
    version::RoomVersion,
};

fuzz_target!(|bytes: &[u8]| {
    let Some((version, json)) = bytes.split_first() else { return };
    let rules = RoomVersion::ALL[usize::from(*version) % RoomVersion::ALL.len()].rules();
    let Ok(object) = parse_object(json, false) else {
        assert!(Pdu::from_json(json, rules).is_err());
        return;
    };
    // Redaction and hashing are asked about objects that are no events, too.
    let redacted = redact_event(&object, rules);
    assert_eq!(redact_event(&redacted, rules), redacted, "redacting twice removes more");
    assert_eq!(redacted_bytes(&object, rules), redacted_bytes(&redacted, rules), "redaction changes the hash");

    let Ok(received) = ReceivedPdu::check(object.clone(), rules) else {
        assert!(Pdu::from_json(json, rules).is_err());
        return;
    };
    let signers = received.required_signers(rules);
    let key = SigningKey::from_seed([7; 32], "fuzz").expect("a key");
    let key = key.verify_key();
    let _ = received.verify_signatures(rules, |_, _| Some(key.clone()));
    assert!(signers.iter().all(|server| received.key_ids(server).count() <= json.len()));

    let pdu = Pdu::from_json(json, rules).expect("ReceivedPdu accepted it");
    assert_eq!(&pdu.event_id, received.event_id());
    assert_eq!(event_id(&object, rules).as_ref(), Ok(&pdu.event_id));
    let _ = pdu.redacts(rules);
    check_stored_form(&pdu);
    let again = Pdu::from_json(&pdu.json, rules).expect("the stored form is an event");
    assert_eq!((&again.event_id, &again.json), (&pdu.event_id, &pdu.json), "the stored form is not a fixed point");

    let kept = received.into_pdu(rules).expect("what was checked can be kept");
    assert_eq!(kept.event_id, pdu.event_id);
    assert_eq!(
        (&kept.room_id, &kept.sender, &kept.kind, &kept.state_key),
        (&pdu.room_id, &pdu.sender, &pdu.kind, &pdu.state_key)
    );
    assert_eq!(
        (kept.depth, &kept.prev_events, &kept.auth_events),
        (pdu.depth, &pdu.prev_events, &pdu.auth_events),
        "redaction removed what the event graph needs"
    );
    let kept_object = kept.to_object().expect("stored JSON parses");
    assert_eq!(event_id(&kept_object, rules).as_ref(), Ok(&kept.event_id));
    check_stored_form(&kept);
});

/// Reading back what was stored gives the same event.
fn check_stored_form(pdu: &Pdu) {
    let stored = Pdu::from_trusted(pdu.event_id.clone(), &pdu.json).expect("stored bytes can be read");
    assert_eq!(
        (&stored.room_id, &stored.sender, &stored.kind, &stored.state_key, stored.origin_server_ts),
        (&pdu.room_id, &pdu.sender, &pdu.kind, &pdu.state_key, pdu.origin_server_ts)
    );
    assert_eq!(stored.content.get(), pdu.content.get());
    assert_eq!(
        (stored.depth, &stored.prev_events, &stored.auth_events),
        (pdu.depth, &pdu.prev_events, &pdu.auth_events)
    );
}
