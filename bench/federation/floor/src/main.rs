//! Measures on one core what checking received events costs without a server around it: the Ed25519 signature alone, and
//! the whole way from JSON to an event whose hash and signature are right.
//!
//! `floor EVENTS PUBLIC_KEY`: a file with one event of room version 11 a line, and one with their server's key. Prints
//! microseconds for one event as JSON.

use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

use serde_json::{Map, Value};
use spec::hash::redacted_bytes;
use spec::pdu::ReceivedPdu;
use spec::signing::{VerifyKey, find_signature};
use spec::version::{RoomVersion, RoomVersionRules};

const KEY_ID: &str = "ed25519:1";
const LEAST: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(events), Some(key)) = (arguments.next(), arguments.next()) else {
        return Err("usage: floor EVENTS PUBLIC_KEY".into());
    };
    let lines: Vec<String> = std::fs::read_to_string(events)?.lines().map(str::to_owned).collect();
    let key = VerifyKey::parse(std::fs::read_to_string(key)?.trim())?;
    let rules = RoomVersion::V11.rules();
    let verify = measure_signatures(&lines, &key, rules)?;
    let check = measure_checks(&lines, &key, rules)?;
    println!("{{\"events\": {}, \"verify_us\": {verify:.1}, \"check_us\": {check:.1}}}", lines.len());
    Ok(())
}

/// The signatures alone.
fn measure_signatures(lines: &[String], key: &VerifyKey, rules: &RoomVersionRules) -> Result<f64, Box<dyn Error>> {
    let mut signed = Vec::with_capacity(lines.len());
    for line in lines {
        let object: Map<String, Value> = serde_json::from_str(line)?;
        let server = sender_server(&object)?.to_owned();
        let signature = find_signature(&object, &server, KEY_ID)?.to_owned();
        signed.push((redacted_bytes(&object, rules), signature));
    }
    repeat(lines.len(), || {
        for (bytes, signature) in &signed {
            key.verify(black_box(bytes), black_box(signature))?;
        }
        Ok(())
    })
}

/// JSON, format, event id, signature and content hash.
fn measure_checks(lines: &[String], key: &VerifyKey, rules: &RoomVersionRules) -> Result<f64, Box<dyn Error>> {
    repeat(lines.len(), || {
        for line in lines {
            let object: Map<String, Value> = serde_json::from_str(black_box(line))?;
            let received = ReceivedPdu::check(object, rules)?;
            received.verify_signatures(rules, |_, key_id| (key_id == KEY_ID).then(|| key.clone()))?;
            black_box(received.into_pdu(rules)?);
        }
        Ok(())
    })
}

/// Microseconds of CPU time for one event, over as many passes as take long enough to tell.
fn repeat(events: usize, mut pass: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let begun = cpu_time()?;
    let mut passes = 0_u32;
    while passes == 0 || cpu_time()?.saturating_sub(begun) < LEAST {
        pass()?;
        passes += 1;
    }
    let spent = cpu_time()?.saturating_sub(begun);
    Ok(spent.as_secs_f64() * 1e6 / f64::from(passes) / events.max(1) as f64)
}

/// The time that this thread has run.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let running = times.split_whitespace().next().ok_or("no times of the thread")?;
    Ok(Duration::from_nanos(running.parse()?))
}

fn sender_server(event: &Map<String, Value>) -> Result<&str, Box<dyn Error>> {
    let sender = event.get("sender").and_then(Value::as_str);
    let (_, server) = sender.and_then(|sender| sender.split_once(':')).ok_or("an event without a sender")?;
    Ok(server)
}
