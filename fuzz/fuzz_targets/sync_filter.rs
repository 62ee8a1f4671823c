//! Filters of `/sync` and `/messages`: refused or accepted, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sync::{Filter, RoomEventFilter};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(filter) = Filter::parse(bytes) {
        let timeline = &filter.room.timeline;
        assert!(!timeline.not_rooms.contains("!room:example.org") || !timeline.matches_room("!room:example.org"));
    }
    if let Ok(filter) = RoomEventFilter::parse(bytes) {
        let listed = filter.rooms.as_ref().is_none_or(|rooms| rooms.contains("!room:example.org"));
        assert!(listed || !filter.matches_room("!room:example.org"));
    }
});
