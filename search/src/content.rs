//! What of an event is searched (Client-Server API §Server Side Search, `room_events`).

use std::borrow::Cow;

use rooms::{Event, EventFlags};
use serde_json::{Map, Value};

/// Which part of which event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SearchKey {
    /// `content.body` of a message.
    Body,
    /// `content.name` of a room's name.
    Name,
    /// The text of a room's topic.
    Topic,
}

impl SearchKey {
    /// As it is stored in the index.
    pub(crate) fn number(self) -> u64 {
        match self {
            SearchKey::Body => 0,
            SearchKey::Name => 1,
            SearchKey::Topic => 2,
        }
    }
}

/// The text of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Searchable {
    pub key: SearchKey,
    pub text: String,
    /// The event that this one is to replace.
    pub edits: Option<String>,
}

/// The text by which an event is found; `None` for all events that are not.
pub(crate) fn read_text(event: &Event) -> Option<Searchable> {
    if !event.flags().is_visible() || event.flags().has(EventFlags::REDACTED) {
        return None;
    }
    let found = match (event.kind(), event.state_key()) {
        ("m.room.message", None) => read_message(&event.content_as()?),
        ("m.room.name", Some("")) => {
            let content: Map<String, Value> = event.content_as()?;
            Some(Searchable { key: SearchKey::Name, text: text_of(&content, "name")?.to_owned(), edits: None })
        }
        ("m.room.topic", Some("")) => read_topic(&event.content_as()?),
        _ => None,
    };
    found.filter(|found| !found.text.is_empty())
}

fn text_of<'a>(content: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    content.get(key)?.as_str()
}

/// Of an edit, what the message shall be; its own `body` is for clients that know no edits.
fn read_message(content: &Map<String, Value>) -> Option<Searchable> {
    let relation = content.get("m.relates_to").and_then(Value::as_object);
    let edits = relation.filter(|relation| text_of(relation, "rel_type") == Some("m.replace"));
    let (text, edits) = match edits {
        Some(relation) => {
            let new_content = content.get("m.new_content")?.as_object()?;
            (text_of(new_content, "body")?, Some(text_of(relation, "event_id")?.to_owned()))
        }
        None => (text_of(content, "body")?, None),
    };
    Some(Searchable { key: SearchKey::Body, text: text.to_owned(), edits })
}

/// `topic`, and the `text/plain` form of `m.topic` where it says something else.
fn read_topic(content: &Map<String, Value>) -> Option<Searchable> {
    let topic = text_of(content, "topic").unwrap_or_default();
    let forms = content.get("m.topic").and_then(|block| block.get("m.text")).and_then(Value::as_array);
    let plain = forms
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .find(|form| form.get("mimetype").is_none_or(|mimetype| mimetype.as_str() == Some("text/plain")));
    let plain = plain.and_then(|form| text_of(form, "body")).unwrap_or_default();
    let text =
        if plain == topic || plain.is_empty() { Cow::Borrowed(topic) } else { Cow::Owned(format!("{topic}\n{plain}")) };
    Some(Searchable { key: SearchKey::Topic, text: text.into_owned(), edits: None })
}

#[cfg(test)]
mod tests;
