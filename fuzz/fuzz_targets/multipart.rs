//! Media of other servers: a multipart body says the same however its bytes arrive. The first bytes say how large the
//! pieces are, up to the first zero.
#![no_main]

use federation::fuzzing::{Part, read_multipart};
use libfuzzer_sys::fuzz_target;

const TYPE: &str = "multipart/mixed; boundary=abc";

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (steps, rest) = bytes.split_at(end);
    let body = rest.get(1..).unwrap_or_default();
    let whole = read_multipart(TYPE, [body]);
    for step in [1, 2, 7, 4096] {
        assert_eq!(settle(read_multipart(TYPE, body.chunks(step))), settle(whole.clone()), "by {step}");
    }
    assert_eq!(settle(read_multipart(TYPE, pieces(body, steps))), settle(whole.clone()), "by {steps:?}");
    if let Some((parts, _)) = whole {
        assert!(parts.iter().map(|part| part.data.len()).sum::<usize>() <= body.len());
        for part in &parts {
            assert!(part.file_name.as_ref().is_none_or(|name| !name.is_empty() && !name.contains(['\n', '\r', '\0'])));
        }
    }
    // The same bytes as a header.
    if let Ok(header) = std::str::from_utf8(body) {
        let _ = read_multipart(header, [&b"--abc--"[..]]);
    }
});

/// How much of an unfinished part has come out depends on the pieces: the last bytes may begin a boundary.
fn settle(read: Option<(Vec<Part>, bool)>) -> Option<(Vec<Part>, bool)> {
    read.map(|(mut parts, is_complete)| {
        if let Some(last) = parts.last_mut().filter(|part| !part.is_whole) {
            last.data.clear();
        }
        (parts, is_complete)
    })
}

fn pieces<'a>(mut body: &'a [u8], steps: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for step in steps {
        let (piece, rest) = body.split_at(usize::from(*step).min(body.len()));
        pieces.push(piece);
        body = rest;
    }
    pieces.push(body);
    pieces
}
