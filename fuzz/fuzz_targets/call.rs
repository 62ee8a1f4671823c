//! A call whose participants say, send and are sent anything: messages of signalling, data, datagrams. Nothing panics, what
//! they are told can be read, and no more are let in than may.
#![no_main]

use std::sync::OnceLock;
use std::time::Instant;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sfu::fuzzing::Call;

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Join(u8, bool, bool, &'a [u8]),
    Say(u8, &'a [u8]),
    Offer(u8, Vec<(u16, u8)>),
    Send(u8, bool, &'a [u8]),
    Arrive(u8, &'a [u8]),
    Wait(u16),
}

static START: OnceLock<Instant> = OnceLock::new();

fuzz_target!(|steps: Vec<Step<'_>>| {
    let mut call = Call::new(*START.get_or_init(Instant::now));
    for step in steps.into_iter().take(32) {
        match step {
            Step::Join(name, single, can_publish, request) => call.join(name % 8, single, can_publish, request),
            Step::Say(name, message) => call.say(name % 8, message),
            Step::Offer(name, edits) => call.offer(name % 8, &edits[..edits.len().min(8)]),
            Step::Send(name, reliable, data) => call.send_data(name % 8, reliable, data),
            Step::Arrive(name, datagram) => call.arrive(name % 8, datagram),
            Step::Wait(millis) => call.wait(millis),
        }
    }
});
