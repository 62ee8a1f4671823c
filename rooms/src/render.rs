//! Events as clients get them: the stored bytes, spliced; nothing is parsed.

use std::io::Write;

use parking_lot::Mutex;
use spec::ids::RoomId;

use crate::error::RoomError;
use crate::event::{Event, EventFlags};
use crate::ids::{RoomSeq, SnapshotId};
use crate::membership::Membership;
use crate::relations::Bundle;
use crate::sticky::STICKY_KEY;
use crate::view::RoomView;
use crate::visibility::membership_of;

/// Which of the client formats of an event is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFormat {
    /// With `room_id`.
    Client,
    /// Without `room_id`, as in /sync.
    Sync,
}

/// Writes events of one room for one viewer.
pub struct Renderer<'a> {
    view: &'a RoomView,
    room_id: RoomId,
    device: Option<&'a str>,
    format: EventFormat,
    now: i64,
    /// What the viewer was at a snapshot: neighbouring events mostly share theirs.
    seen: Mutex<Option<(SnapshotId, Membership)>>,
}

impl<'a> Renderer<'a> {
    /// For events in `view`; `device` is the viewer's, for the transaction ids of what it sent.
    #[must_use]
    pub fn new(view: &'a RoomView, device: Option<&'a str>, format: EventFormat) -> Renderer<'a> {
        let now = view.rooms.clock.now_ms() as i64;
        Renderer { view, room_id: view.head().room_id().clone(), device, format, now, seen: Mutex::new(None) }
    }

    /// Appends the event as JSON, with its bundled aggregations.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn render(&self, event: &Event, out: &mut Vec<u8>) -> Result<(), RoomError> {
        let bundle = self.view.bundle(event)?;
        self.write_event(event, &bundle, true, out)
    }

    /// Appends the event as JSON, without what was said of it since.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn render_plain(&self, event: &Event, out: &mut Vec<u8>) -> Result<(), RoomError> {
        self.write_event(event, &Bundle::default(), true, out)
    }

    /// Appends a JSON array of events.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn render_all<'e>(
        &self,
        events: impl IntoIterator<Item = &'e Event>,
        out: &mut Vec<u8>,
    ) -> Result<(), RoomError> {
        out.push(b'[');
        for (index, event) in events.into_iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            self.render(event, out)?;
        }
        out.push(b']');
        Ok(())
    }

    fn write_event(&self, event: &Event, bundle: &Bundle, full: bool, out: &mut Vec<u8>) -> Result<(), RoomError> {
        let redacts = if event.kind() == "m.room.redaction" { redacts_of(event) } else { None };
        out.extend_from_slice(b"{\"content\":");
        match &redacts {
            Some(redacts) if !self.view.head().rules().redacts_in_content => write_redacting(event, redacts, out),
            _ => out.extend_from_slice(event.content().as_bytes()),
        }
        write_text(out, ",\"event_id\":", event.event_id());
        // Writing to a Vec cannot fail.
        let _ = write!(out, ",\"origin_server_ts\":{}", event.origin_server_ts());
        if let Some(redacts) = &redacts {
            write_text(out, ",\"redacts\":", redacts);
        }
        if let Some(duration) = event.sticky_duration() {
            let _ = write!(out, ",\"{STICKY_KEY}\":{{\"duration_ms\":{duration}}}");
        }
        if self.format == EventFormat::Client {
            write_text(out, ",\"room_id\":", self.room_id.as_str());
        }
        write_text(out, ",\"sender\":", event.sender());
        if let Some(state_key) = event.state_key() {
            write_text(out, ",\"state_key\":", state_key);
        }
        write_text(out, ",\"type\":", event.kind());
        self.write_unsigned(event, bundle, full, out)?;
        out.push(b'}');
        Ok(())
    }

    fn write_unsigned(&self, event: &Event, bundle: &Bundle, full: bool, out: &mut Vec<u8>) -> Result<(), RoomError> {
        let _ = write!(out, ",\"unsigned\":{{\"age\":{}", self.now.saturating_sub(event.origin_server_ts()));
        if let Some(left) = self.view.rooms.sticky_left(event)? {
            let _ = write!(out, ",\"msc4354_sticky_duration_ttl_ms\":{left}");
        }
        if let (Some((device, txn)), Some(viewing)) = (event.transaction(), self.device)
            && device == viewing
            && event.sender_nid() == self.view.viewer()
        {
            write_text(out, ",\"transaction_id\":", txn);
        }
        if let Some(delay_id) = event.delay_id().filter(|_| event.sender_nid() == self.view.viewer()) {
            write_text(out, ",\"delay_id\":", delay_id);
            write_text(out, ",\"org.matrix.msc4140.delay_id\":", delay_id);
        }
        if let Some(membership) = self.membership_at(event).filter(|_| full) {
            write_text(out, ",\"membership\":", membership?.as_str());
        }
        // What an event followed may have been purged.
        let find = |seq: Option<RoomSeq>| match seq.filter(|_| full) {
            Some(seq) => self.view.rooms.find_event_at(event.room(), seq),
            None => Ok(None),
        };
        if let Some(replaced) = find(event.replaces())? {
            out.extend_from_slice(b",\"prev_content\":");
            out.extend_from_slice(replaced.content().as_bytes());
            write_text(out, ",\"prev_sender\":", replaced.sender());
            write_text(out, ",\"replaces_state\":", replaced.event_id());
        }
        if let Some(by) = find(event.redacted_by().filter(|_| event.flags().has(EventFlags::REDACTED)))? {
            out.extend_from_slice(b",\"redacted_because\":");
            self.write_event(&by, &Bundle::default(), false, out)?;
        }
        self.write_bundle(bundle, out)?;
        out.push(b'}');
        Ok(())
    }

    /// What the viewer was when an event came, with what it changed itself (Client-Server API `unsigned.membership`).
    /// Nothing for those who view as no device, and for events that are no part of the timeline.
    fn membership_at(&self, event: &Event) -> Option<Result<Membership, RoomError>> {
        self.device?;
        if event.seq() >= RoomSeq::FIRST_OUTLIER {
            return None;
        }
        if event.kind() == "m.room.member" && event.state_key() == Some(self.view.viewer_id.as_str()) {
            return membership_of(event).map(Ok);
        }
        let snapshot = event.state_before();
        if let Some((_, membership)) = self.seen.lock().filter(|(known, _)| *known == snapshot) {
            return Some(Ok(membership));
        }
        let (rooms, viewer) = (&self.view.rooms, self.view.viewer_id.as_str());
        let found = rooms.state_event(event.room(), snapshot, "m.room.member", viewer);
        Some(found.map(|member| {
            // Of whom nothing was heard, they had not come yet.
            let membership = member.as_ref().and_then(membership_of).unwrap_or(Membership::Leave);
            *self.seen.lock() = Some((snapshot, membership));
            membership
        }))
    }

    fn write_bundle(&self, bundle: &Bundle, out: &mut Vec<u8>) -> Result<(), RoomError> {
        if bundle.replacement.is_none() && bundle.thread.is_none() && bundle.references.is_empty() {
            return Ok(());
        }
        let mut separator = ",\"m.relations\":{";
        if let Some(edit) = &bundle.replacement {
            out.extend_from_slice(separator.as_bytes());
            out.extend_from_slice(b"\"m.replace\":");
            self.write_event(edit, &Bundle::default(), false, out)?;
            separator = ",";
        }
        if let Some((count, latest, took_part)) = &bundle.thread {
            out.extend_from_slice(separator.as_bytes());
            let _ = write!(
                out,
                "\"m.thread\":{{\"count\":{count},\"current_user_participated\":{took_part},\"latest_event\":"
            );
            // The latest event of a thread carries its own edit.
            let bundle = self.view.bundle(latest)?;
            let edits = Bundle { replacement: bundle.replacement, ..Bundle::default() };
            self.write_event(latest, &edits, false, out)?;
            out.push(b'}');
            separator = ",";
        }
        if !bundle.references.is_empty() {
            out.extend_from_slice(separator.as_bytes());
            out.extend_from_slice(b"\"m.reference\":{\"chunk\":[");
            for (index, id) in bundle.references.iter().enumerate() {
                write_text(out, if index == 0 { "{\"event_id\":" } else { ",{\"event_id\":" }, id);
                out.push(b'}');
            }
            out.extend_from_slice(b"]}");
        }
        out.push(b'}');
        Ok(())
    }

    /// Appends a stripped state event: type, state key, sender and content (Client-Server API §Stripped state).
    pub fn render_stripped(event: &Event, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"content\":");
        out.extend_from_slice(event.content().as_bytes());
        write_text(out, ",\"sender\":", event.sender());
        write_text(out, ",\"state_key\":", event.state_key().unwrap_or_default());
        write_text(out, ",\"type\":", event.kind());
        out.push(b'}');
    }
}

fn write_text(out: &mut Vec<u8>, before: &str, text: &str) {
    out.extend_from_slice(before.as_bytes());
    spec::canonical::write_into(out, &text);
}

/// The content of a redaction, with what it redacts: newer clients look there in every room version (room version 11,
/// §Moving the `redacts` property).
fn write_redacting(event: &Event, redacts: &str, out: &mut Vec<u8>) {
    let mut content: serde_json::Map<String, serde_json::Value> = event.content_as().unwrap_or_default();
    content.insert("redacts".to_owned(), redacts.into());
    spec::canonical::write_into(out, &content);
}

/// What a redaction redacts, from wherever its room version keeps it.
fn redacts_of(event: &Event) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Redacts {
        redacts: Option<String>,
    }
    let top: Option<Redacts> = serde_json::from_str(event.json()).ok();
    top.and_then(|found| found.redacts).or_else(|| event.content_as::<Redacts>()?.redacts)
}
