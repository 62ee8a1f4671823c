//! What a room holds, as a client sees it.

use std::collections::HashMap;

use serde_json::Value;
use testkit::{Account, encode_path_segment};

/// An event as far as the checks need it.
pub struct Seen {
    pub event_id: String,
    /// The writer's mark in the content; none once it is redacted.
    pub mark: Option<String>,
    /// What a redaction redacts.
    pub redacts: Option<String>,
    pub is_redacted: bool,
}

/// All events of a room, from the first to the last.
pub struct Timeline {
    pub room: String,
    pub events: Vec<Seen>,
    by_id: HashMap<String, usize>,
    by_mark: HashMap<String, usize>,
}

impl Timeline {
    pub fn len(&self) -> usize {
        self.events.len()
    }

    pub fn event(&self, id: &str) -> Option<&Seen> {
        self.by_id.get(id).and_then(|at| self.events.get(*at))
    }

    pub fn marked(&self, mark: &str) -> Option<&Seen> {
        self.by_mark.get(mark).and_then(|at| self.events.get(*at))
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// Pages through the whole room. An event or a mark that is there twice ends the test.
pub fn read_timeline(reader: &mut Account, room: &str) -> Timeline {
    let mut timeline =
        Timeline { room: room.to_owned(), events: Vec::new(), by_id: HashMap::new(), by_mark: HashMap::new() };
    let path = format!("/rooms/{}/messages?dir=f&limit=1000", encode_path_segment(room));
    let mut page = reader.expect("GET", &path, None);
    loop {
        for event in page["chunk"].as_array().unwrap() {
            let seen = Seen {
                event_id: text(&event["event_id"]).unwrap(),
                mark: text(&event["content"]["mark"]).or_else(|| text(&event["content"]["reason"])),
                redacts: text(&event["redacts"]).or_else(|| text(&event["content"]["redacts"])),
                is_redacted: event["unsigned"]["redacted_because"].is_object(),
            };
            let at = timeline.events.len();
            let twice = timeline.by_id.insert(seen.event_id.clone(), at);
            assert!(twice.is_none(), "{room}: {} is there twice", seen.event_id);
            if let Some(mark) = &seen.mark {
                let twice = timeline.by_mark.insert(mark.clone(), at);
                assert!(twice.is_none(), "{room}: {mark} made two events");
            }
            timeline.events.push(seen);
        }
        let Some(end) = page["end"].as_str() else { return timeline };
        page = reader.expect("GET", &format!("{path}&from={}", encode_path_segment(end)), None);
    }
}
