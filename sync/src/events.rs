//! Events as a filter wants them written.

use rooms::{Event, EventFormat, Renderer, RoomView};
use serde_json::{Map, Value};

use crate::error::SyncError;
use crate::filter::{EventFormatName, Filter};
use crate::json::Array;

/// Writes the events of one room for one device.
pub(crate) struct EventWriter<'a> {
    renderer: Renderer<'a>,
    fields: Option<&'a [String]>,
    format: EventFormatName,
}

impl<'a> EventWriter<'a> {
    pub fn new(view: &'a RoomView, device: &'a str, filter: Option<&'a Filter>) -> EventWriter<'a> {
        EventWriter {
            renderer: Renderer::new(view, Some(device), EventFormat::Sync),
            fields: filter.and_then(|filter| filter.event_fields.as_deref()),
            format: filter.map(|filter| filter.event_format).unwrap_or_default(),
        }
    }

    pub fn write(&self, event: &Event, out: &mut Vec<u8>) -> Result<(), SyncError> {
        if self.format == EventFormatName::Federation {
            out.extend_from_slice(event.json().as_bytes());
            return Ok(());
        }
        let Some(fields) = self.fields else { return Ok(self.renderer.render(event, out)?) };
        let mut whole = Vec::new();
        self.renderer.render(event, &mut whole)?;
        let whole: Map<String, Value> = serde_json::from_slice(&whole).unwrap_or_default();
        spec::canonical::write_into(out, &keep_fields(&whole, fields));
        Ok(())
    }

    pub fn write_all<'e>(
        &self,
        events: impl IntoIterator<Item = &'e Event>,
        out: &mut Vec<u8>,
    ) -> Result<(), SyncError> {
        let mut array = Array::open(out);
        for event in events {
            self.write(event, array.item())?;
        }
        array.close();
        Ok(())
    }
}

/// The fields of an event that are named by dot-separated paths (Appendices §Dot-separated property paths).
fn keep_fields(event: &Map<String, Value>, paths: &[String]) -> Map<String, Value> {
    let mut kept = Map::new();
    for path in paths {
        let names = split_path(path);
        let Some((last, parents)) = names.split_last() else { continue };
        let mut from = Some(event);
        for name in parents {
            from = from.and_then(|object| object.get(name)).and_then(Value::as_object);
        }
        let Some(value) = from.and_then(|object| object.get(last)) else { continue };
        keep(&mut kept, parents, last, value);
    }
    kept
}

fn keep(into: &mut Map<String, Value>, parents: &[String], last: &str, value: &Value) {
    let Some((first, rest)) = parents.split_first() else {
        into.insert(last.to_owned(), value.clone());
        return;
    };
    // What is kept under this name came from an object, so it is one.
    if let Value::Object(child) = into.entry(first.clone()).or_insert_with(|| Value::Object(Map::new())) {
        keep(child, rest, last, value);
    }
}

fn split_path(path: &str) -> Vec<String> {
    let mut names = vec![String::new()];
    let mut chars = path.chars().peekable();
    while let Some(char) = chars.next() {
        let name = match char {
            '.' => {
                names.push(String::new());
                continue;
            }
            '\\' => chars.next_if(|next| matches!(next, '.' | '\\')).unwrap_or('\\'),
            other => other,
        };
        if let Some(last) = names.last_mut() {
            last.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests;
