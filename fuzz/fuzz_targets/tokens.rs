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
        let written = cursor.to_string();
        assert_eq!(written.parse::<Cursor>().ok(), Some(cursor));
        assert_eq!(written, text, "a cursor is accepted in a form in which it is never written");
    }
});
