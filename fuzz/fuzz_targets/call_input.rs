//! What the media server reads of strangers and clients before and beside a call: the address with which they connect,
//! descriptions of media, payloads of packets, reports of receivers, datagrams.
#![no_main]

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::Instant;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use sfu::fuzzing::{read_datagram, read_description, read_join, read_payloads, read_reports};

#[derive(Arbitrary, Debug)]
enum Input<'a> {
    Join(&'a str, &'a str),
    Description(&'a str),
    Payloads(Vec<(u64, u32, bool, &'a [u8])>),
    Reports(Vec<(u16, &'a [u8])>),
    Datagram(&'a [u8], [u8; 16], u16),
}

static START: OnceLock<Instant> = OnceLock::new();

fuzz_target!(|input: Input<'_>| {
    match input {
        Input::Join(request, token) => read_join(request, token),
        Input::Description(text) => read_description(text),
        Input::Payloads(packets) => read_payloads(&packets, *START.get_or_init(Instant::now)),
        Input::Reports(packets) => read_reports(&packets, *START.get_or_init(Instant::now)),
        Input::Datagram(datagram, ip, port) => read_datagram(datagram, SocketAddr::from((ip, port))),
    }
});
