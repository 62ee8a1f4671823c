use serde_json::{Value, json};

use super::{CATCH_UP_ABOVE, CATCH_UP_NEWEST, MAX_BYTES, MAX_EDUS, MAX_PDUS, Packer, choose_after_outage};

fn body(packer: Packer) -> Value {
    serde_json::from_slice(&packer.finish("t".into(), "us", 5).body).unwrap()
}

#[test]
fn a_transaction_keeps_the_limits_in_number() {
    let mut packer = Packer::new(1000, 1000);
    for index in 0..MAX_PDUS {
        assert!(packer.add_pdu(&format!("{{\"n\":{index}}}")));
    }
    assert!(!packer.add_pdu("{}"));
    for _ in 0..MAX_EDUS {
        assert!(packer.add_edu(&json!({})));
    }
    assert!(!packer.add_edu(&json!({})));
    let body = body(packer);
    assert_eq!(body["pdus"].as_array().unwrap().len(), 50);
    assert_eq!(body["edus"].as_array().unwrap().len(), 100);
    assert_eq!(body["pdus"][7]["n"], 7, "in the order in which they were added");
    assert_eq!((&body["origin"], &body["origin_server_ts"]), (&json!("us"), &json!(5)));
}

#[test]
fn a_transaction_keeps_the_limit_in_size_but_for_the_first() {
    let large = format!("\"{}\"", "x".repeat(MAX_BYTES / 3));
    let mut packer = Packer::new(MAX_PDUS, MAX_EDUS);
    assert!(packer.add_pdu(&large) && packer.add_pdu(&large));
    assert!(!packer.add_pdu(&large) && !packer.add_edu(&large));
    let mut packer = Packer::new(MAX_PDUS, MAX_EDUS);
    let huge = format!("\"{}\"", "x".repeat(MAX_BYTES * 2));
    assert!(packer.add_pdu(&huge), "what is alone too large would be in the way for ever");
    assert!(!packer.add_pdu("1"));
}

#[test]
fn nothing_to_send_has_no_body() {
    let mut packer = Packer::new(MAX_PDUS, MAX_EDUS);
    assert!(packer.add_pdu("not JSON"));
    assert!(packer.is_empty());
    assert_eq!(packer.finish("t".into(), "us", 0).body, b"");
}

#[test]
fn edus_are_left_out_where_there_are_none() {
    let mut packer = Packer::new(MAX_PDUS, MAX_EDUS);
    packer.add_pdu("{}");
    assert!(body(packer).get("edus").is_none());
}

#[test]
fn after_an_outage_only_very_much_is_cut_to_the_newest() {
    let few: Vec<usize> = (0..CATCH_UP_ABOVE).collect();
    assert_eq!(choose_after_outage(few.clone()), few);
    let many: Vec<usize> = (0..=CATCH_UP_ABOVE).collect();
    let newest = choose_after_outage(many);
    assert_eq!(newest.len(), CATCH_UP_NEWEST);
    assert_eq!(newest.last(), Some(&CATCH_UP_ABOVE));
    assert!(newest.is_sorted());
}
