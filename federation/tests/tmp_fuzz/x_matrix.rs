// `Authorization` headers: what is read can be written, reads back the same, and is within its bounds.

use spec::{
    ids::ServerName,
    signing::SigningKey,
    xmatrix::{MAX_HEADER_BYTES, XMatrix},
};

fuzz_target!(|header: &str| {
    let Ok(read) = XMatrix::parse(header) else { return };
    assert!(header.len() <= MAX_HEADER_BYTES);
    assert!(header.trim_start().len() >= 8 && header.trim_start()[..8].eq_ignore_ascii_case("X-Matrix"));
    assert!(read.key_id.len() <= 255 && read.signature.len() <= 88 && read.origin.as_str().len() <= 255);
    // What is written may have gained quotes; what was near the limit may be beyond it.
    let written = read.to_header();
    if written.len() <= MAX_HEADER_BYTES {
        assert_eq!(XMatrix::parse(&written).as_ref(), Ok(&read), "{written}");
    }
    let key = SigningKey::from_seed([7; 32], "fuzz").expect("a key");
    let us = ServerName::parse("us.org").expect("a server name");
    assert!(read.verify(&key.verify_key(), &us, "GET", "/x", None).is_err(), "nobody guesses a signature");
    // Parameters that nobody knows change nothing, wherever they stand.
    let more = format!("{written},unknown=\"a\\\"b\"");
    if more.len() <= MAX_HEADER_BYTES {
        assert_eq!(XMatrix::parse(&more).as_ref(), Ok(&read), "{more}");
    }
    let twice = format!("{written},origin=\"{}\"", read.origin);
    assert!(XMatrix::parse(&twice).is_err(), "an origin too many");
});
