//! STUN, TURN and ChannelData: whatever is sent, nothing inside is reached, strangers get little, sockets are as many as
//! allocations.
#![no_main]

use std::net::SocketAddr;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use turn::fuzzing::{Relay, read};

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Send(u8, &'a [u8]),
    Ask(u8, u8, &'a [u8]),
    Arrive(u8, bool, [u8; 16], u16, &'a [u8]),
    Wait(u16),
}

fuzz_target!(|input: (&[u8], Vec<Step<'_>>)| {
    let (bytes, steps) = input;
    read(bytes);
    let mut relay = Relay::default();
    for step in steps.into_iter().take(64) {
        match step {
            Step::Send(client, bytes) => relay.send(client % 8, bytes),
            Step::Ask(client, method, attributes) => {
                relay.ask(client % 8, method, &attributes[..attributes.len().min(2000)])
            }
            Step::Arrive(slot, true, ip, port, data) => relay.arrive(slot % 8, SocketAddr::from((ip, port)), data),
            Step::Arrive(slot, false, [a, b, c, d, ..], port, data) => {
                relay.arrive(slot % 8, SocketAddr::from(([a, b, c, d], port)), data);
            }
            Step::Wait(seconds) => relay.wait(seconds),
        }
    }
});
