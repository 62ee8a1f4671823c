//! Tokens that clients give back: a sync token that is accepted is what the server would have written; a cursor is
//! written and read back as itself.
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
        assert_eq!(cursor.to_string().parse::<Cursor>().ok(), Some(cursor));
    }
});
