//! Putting a transaction together (Application Service API §"Pushing events").

use rooms::{EventFormat, Renderer, UserNid};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use storage::Batch;
use users::{AppService, EphemeralKey};

use crate::Dispatcher;
use crate::encryption::Encryption;
use crate::error::DispatchError;
use crate::line::{Line, Noted};
use crate::rows::{self, CursorRow};

/// The most events in a transaction.
pub(crate) const MAX_EVENTS: usize = 100;
/// About how large a transaction gets, in bytes. One event always fits.
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// A transaction as it is sent.
pub(crate) struct Transaction {
    pub id: String,
    pub body: bytes::Bytes,
    pub events: u64,
}

#[derive(Default, Serialize)]
struct Body<'a> {
    events: &'a [Box<RawValue>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ephemeral: &'a [Box<RawValue>],
    #[serde(rename = "de.sorunome.msc2409.ephemeral", skip_serializing_if = "<[_]>::is_empty")]
    legacy_ephemeral: &'a [Box<RawValue>],
    #[serde(flatten)]
    encryption: Option<&'a Encryption>,
}

impl Dispatcher {
    /// The next transaction of a service, if there is something to tell: it is on the disk then, and `row` is past it.
    pub(crate) async fn next_transaction(
        &self,
        line: &Line,
        row: &mut CursorRow,
    ) -> Result<Option<Transaction>, DispatchError> {
        let service = &line.service;
        let noted: Vec<Noted> = line.waiting.lock().events.iter().take(MAX_EVENTS).copied().collect();
        let (events, taken) = self.render_events(service, &noted)?;
        let mut batch = Batch::new();
        let mut left = MAX_BYTES.saturating_sub(events.iter().map(|event| event.get().len()).sum());
        let ephemeral = self.take_ephemeral(line, &mut left)?;
        let encryption = self.take_encryption(line, &mut batch, left)?;
        let mut new_row = row.clone();
        {
            let waiting = line.waiting.lock();
            let last = taken.checked_sub(1).and_then(|last| noted.get(last));
            new_row.place = match waiting.events.len() == taken {
                true => waiting.upto,
                false => last.map_or(row.place, Noted::place),
            };
        }
        if let Some(upto) = encryption.as_ref().and_then(|encryption| encryption.lists_upto) {
            new_row.devices = upto;
        }
        if events.is_empty() && ephemeral.is_empty() && encryption.as_ref().is_none_or(Encryption::is_empty) {
            self.drop_noted(line, taken);
            return Ok(None);
        }
        let mut body = Body { events: &events, encryption: encryption.as_ref(), ..Body::default() };
        match service.ephemeral() {
            Some(EphemeralKey::Stable) => body.ephemeral = &ephemeral,
            Some(EphemeralKey::Legacy) => body.legacy_ephemeral = &ephemeral,
            None => {}
        }
        // What was parsed as JSON serialises.
        let body = serde_json::to_vec(&body).map_err(|_| DispatchError::Damaged)?;
        new_row.transactions = row.transactions.saturating_add(1);
        new_row.parts = row.parts;
        rows::put_outgoing(&mut batch, service.id(), &mut new_row, &body);
        rows::put_cursor(&mut batch, service.id(), &new_row);
        self.store.commit(batch).await?;
        *row = new_row;
        self.drop_noted(line, taken);
        Ok(Some(Transaction { id: row.transaction_id(), body: body.into(), events: events.len() as u64 }))
    }

    /// Takes the first events off the line: nobody else does.
    fn drop_noted(&self, line: &Line, count: usize) {
        let mut waiting = line.waiting.lock();
        let count = count.min(waiting.events.len());
        waiting.events.drain(..count);
    }

    /// The events as far as they fit, and how many were looked at for them.
    fn render_events(
        &self,
        service: &AppService,
        noted: &[Noted],
    ) -> Result<(Vec<Box<RawValue>>, usize), DispatchError> {
        let viewer = self.rooms.user_nid(service.sender())?.ok_or(DispatchError::Damaged)?;
        let (mut events, mut size, mut taken) = (Vec::with_capacity(noted.len()), 0usize, 0);
        for place in noted {
            let rendered = self.render_event(viewer, place)?;
            let length = rendered.as_ref().map_or(0, |event| event.get().len());
            size = size.saturating_add(length);
            if size > MAX_BYTES && !events.is_empty() {
                break;
            }
            events.extend(rendered);
            taken += 1;
        }
        Ok((events, taken))
    }

    /// An event as clients get it; `None` for one that cannot be read, which holds up nothing else.
    fn render_event(&self, viewer: UserNid, noted: &Noted) -> Result<Option<Box<RawValue>>, DispatchError> {
        let event = match self.rooms.event_at(noted.room, noted.seq) {
            Ok(event) => event,
            Err(error @ rooms::RoomError::Storage(_)) => return Err(error.into()),
            Err(error) => {
                tracing::error!(room = noted.room.0, seq = noted.seq.0, %error, "an event is not told to a service");
                return Ok(None);
            }
        };
        let view = self.rooms.view(noted.room, viewer)?;
        let mut json = Vec::with_capacity(1024);
        Renderer::new(&view, None, EventFormat::Client).render_plain(&event, &mut json)?;
        if let Some(target) = crate::interest::member_target(&event)
            && let Some(target) = self.rooms.user_nid(&target)?
            && let Some(state) = self.rooms.stripped_state(noted.room, target)?
        {
            insert_invite_state(&mut json, &state);
        }
        Ok(String::from_utf8(json).ok().and_then(|json| RawValue::from_string(json).ok()))
    }
}

/// Adds to `unsigned`, which ends the event, what the inviting server told of the room.
fn insert_invite_state(json: &mut Vec<u8>, state: &[Box<RawValue>]) {
    let Ok(state) = to_raw_value(state) else { return };
    if !json.ends_with(b"}}") {
        return;
    }
    json.truncate(json.len() - 2);
    json.extend_from_slice(b",\"invite_room_state\":");
    json.extend_from_slice(state.get().as_bytes());
    json.extend_from_slice(b"}}");
}
