//! Tokens that clients give back: what is accepted is what the server would have written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rooms::Cursor;
use sync::SyncToken;

fuzz_target!(|text: &str| {
    if let Ok(token) = SyncToken::parse(text) {
        assert_eq!(token.encode(), text);
        assert!(token.to_device <= token.pos);
    }
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string(), text);
    }
});
