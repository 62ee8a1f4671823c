// Transactions of other servers: the first byte picks the room version, the rest is the body. What is within the
// bounds is within them, and reading an event does not depend on the transaction that it came in.

use federation::fuzzing::read_transaction;
use spec::{
    canonical::parse_object,
    ids::ServerName,
    pdu::ReceivedPdu,
    redact::redact_event,
    version::{RoomVersion, RoomVersionRules},
};

fuzz_target!(|bytes: &[u8]| {
    let Some((version, body)) = bytes.split_first() else { return };
    let Ok(body) = parse_object(body, false) else { return };
    let origin = ServerName::parse("a.org").expect("a server name");
    assert!(read_transaction(&origin, "", body.clone()).is_none(), "a transaction has an id");
    let other = ServerName::parse("b.org").expect("a server name");
    assert!(
        read_transaction(&other, "t", body.clone()).is_none() || read_transaction(&origin, "t", body.clone()).is_none(),
        "one transaction of two servers"
    );
    let Some((pdus, edus)) = read_transaction(&origin, "t", body) else { return };
    assert!(pdus.len() <= 50 && edus.len() <= 100, "{} events and {} EDUs", pdus.len(), edus.len());
    let first = usize::from(*version);
    for pdu in pdus {
        // A room has one version, but nothing keeps the events of one transaction to it.
        for step in 0..3 {
            let version = RoomVersion::ALL[(first + step * 5) % RoomVersion::ALL.len()];
            check_pdu(pdu.clone(), version.rules());
        }
    }
});

fn check_pdu(pdu: serde_json::Map<String, serde_json::Value>, rules: &RoomVersionRules) {
    let Ok(received) = ReceivedPdu::check(pdu.clone(), rules) else { return };
    let claimed = received.unverified();
    assert!(claimed.prev_events.len() <= 20 && claimed.auth_events.len() <= 10);
    assert!(claimed.json.len() <= spec::pdu::MAX_PDU_BYTES);
    assert!(received.required_signers(rules).len() <= 3);
    // As staging does: written down, read back, checked again.
    let stored = parse_object(&claimed.json, false).expect("the stored form is JSON");
    let again = ReceivedPdu::check(stored, rules).expect("what was staged can be read");
    assert_eq!(again.event_id(), received.event_id());
    assert_eq!(again.unverified().json, claimed.json);
    // `unsigned` is nobody's: with it or without, the event is the same.
    let mut with = pdu.clone();
    with.insert("unsigned".to_owned(), 1.into());
    let with = ReceivedPdu::check(with, rules).expect("unsigned does not count");
    assert_eq!(with.event_id(), received.event_id());
    // Redacting takes nothing from what the id is made of.
    if let Ok(redacted) = ReceivedPdu::check(redact_event(&pdu, rules), rules) {
        assert_eq!(redacted.event_id(), received.event_id());
    }
}
