//! The old event stream: `GET /events` (Client-Server API, deprecated), which is still how rooms are peeked into
//! (§Room previews). It tells events of rooms alone; all else is told by `/sync`.

use std::time::Duration;

use rooms::{Event, EventFormat, Membership, Renderer, RoomNid, RoomView, Rooms, UserRoom};
use spec::ids::RoomId;
use storage::StreamPos;
use users::{PresenceState, Session};

use crate::error::SyncError;
use crate::invites::HiddenInvites;
use crate::json::{Array, Object};
use crate::meters::Form;
use crate::sync::{Found, Inner, Rows, Sync};
use crate::timeline::is_ignored;
use crate::token::SyncToken;

/// How many events one answer has, and a few more where one commit brought them.
const MAX_EVENTS: usize = 100;
/// How many events of one room are looked at for one answer, if one commit brought so many.
const MAX_SCANNED: usize = 1000;

/// One event and the view that shows it, by its place among the views.
struct Shown {
    event: Event,
    view: usize,
}

/// What one look has found.
#[derive(Default)]
struct Chunk {
    views: Vec<RoomView>,
    events: Vec<Shown>,
    /// Up to where everything was looked at, if that is less than was asked for.
    cut: Option<StreamPos>,
}

impl Sync {
    /// The events of the caller's rooms after a token, or from now on, as JSON: as soon as there are any, or after
    /// `timeout`. Cancel-safe.
    ///
    /// # Errors
    /// [`SyncError::InvalidToken`] for a token of the future; else storage errors.
    pub async fn events(
        &self,
        caller: &Session,
        from: Option<SyncToken>,
        timeout: Duration,
    ) -> Result<Vec<u8>, SyncError> {
        let inner = &*self.0;
        let from = inner.stream_start(from)?;
        let _syncing = inner.users.begin_sync(caller.user, PresenceState::Online);
        let look = |rows: &Rows, until: StreamPos, _: bool| {
            let chunk = inner.read_chunk(caller, rows, from.pos, until)?;
            inner.answer_chunk(caller, from, until, chunk)
        };
        inner.look_until(Form::Events, caller, timeout, look).await
    }

    /// [`Sync::events`] of one room, which the caller need not be in if anyone may read it.
    ///
    /// # Errors
    /// [`SyncError::InvalidToken`] for a token of the future; [`rooms::RoomError::NotInRoom`] if the caller may not
    /// read the room; else storage errors.
    pub async fn events_in(
        &self,
        caller: &Session,
        room: &RoomId,
        from: Option<SyncToken>,
        timeout: Duration,
    ) -> Result<Vec<u8>, SyncError> {
        let inner = &*self.0;
        let from = inner.stream_start(from)?;
        let deadline = inner.clock.monotonic() + inner.config.wait(timeout);
        let nid = inner.rooms.as_user(room, caller.user)?.room();
        // Before the first look, so that nothing is missed.
        let watch = inner.waiters.watch(nid);
        let mut last = timeout.is_zero();
        loop {
            let until = inner.store.visible();
            let mut chunk = Chunk::default();
            // Anew each time: who may read the room can change meanwhile.
            let view = inner.rooms.as_user(room, caller.user)?;
            chunk.add_room(inner, caller, view, from.pos, until)?;
            let (answer, found) = inner.answer_chunk(caller, from, until, chunk)?;
            if last || matches!(found, Found::News) {
                return Ok(answer);
            }
            tokio::select! {
                () = watch.woken() => {}
                () = inner.clock.sleep_until(deadline) => last = true,
                () = inner.tasks.shutdown_signal() => last = true,
            }
        }
    }
}

impl Inner {
    fn stream_start(&self, from: Option<SyncToken>) -> Result<SyncToken, SyncError> {
        let now = self.store.visible();
        match from {
            Some(from) if from.pos > now => Err(SyncError::InvalidToken),
            Some(from) => Ok(from),
            None => Ok(SyncToken::of_events(now)),
        }
    }

    fn read_chunk(
        &self,
        caller: &Session,
        rows: &Rows,
        since: StreamPos,
        until: StreamPos,
    ) -> Result<Chunk, SyncError> {
        let mut chunk = Chunk::default();
        let joined = self.feed.room_changes(since, rows).timelines;
        let moved = |room: &RoomNid, row: &UserRoom| {
            let is_new = row.pos > since && row.pos <= until && !row.forgotten;
            (is_new && row.membership != Membership::Join).then_some(*room)
        };
        let moved: Vec<RoomNid> = rows.iter().filter_map(|(room, row)| moved(room, row)).collect();
        let hidden = if moved.is_empty() { None } else { Some(HiddenInvites::new(self, caller)?) };
        for room in joined {
            chunk.add_room(self, caller, self.rooms.view(room, caller.user)?, since, until)?;
        }
        for room in moved {
            let Some(row) = rows.get(&room) else { continue };
            let view = self.rooms.view(room, caller.user)?;
            // Their own member event is theirs to know, whatever else they may see.
            let event = self.rooms.event_at(room, row.seq)?;
            let is_hidden =
                row.membership == Membership::Invite && hidden.as_ref().is_some_and(|hidden| hidden.hides(&event));
            if row.was_joined() {
                chunk.add_room(self, caller, view, since, until)?;
            } else if !is_hidden {
                chunk.add_event(view, event);
            }
        }
        Ok(chunk)
    }

    fn answer_chunk(
        &self,
        caller: &Session,
        from: SyncToken,
        until: StreamPos,
        mut chunk: Chunk,
    ) -> Result<(Vec<u8>, Found), SyncError> {
        let end = SyncToken { pos: chunk.finish().unwrap_or(until), ..from };
        let mut out = Vec::with_capacity(256 + 512 * chunk.events.len());
        let mut answer = Object::open(&mut out);
        answer.text("start", &from.encode());
        answer.text("end", &end.encode());
        let mut array = Array::open(answer.key("chunk"));
        for shown in &chunk.events {
            let Some(view) = chunk.views.get(shown.view) else { continue };
            Renderer::new(view, Some(&caller.device_id), EventFormat::Client).render(&shown.event, array.item())?;
        }
        // What was looked at and may not be seen is passed over by the next request too.
        let found = if array.close() || chunk.cut.is_some() { Found::News } else { Found::Nothing };
        answer.close();
        Ok((out, found))
    }
}

impl Chunk {
    fn add_event(&mut self, view: RoomView, event: Event) {
        self.events.push(Shown { event, view: self.views.len() });
        self.views.push(view);
    }

    /// Adds what came to a room after `since`, as far as the viewer may see it.
    fn add_room(
        &mut self,
        sync: &Inner,
        caller: &Session,
        view: RoomView,
        since: StreamPos,
        until: StreamPos,
    ) -> Result<(), SyncError> {
        let until = self.cut.unwrap_or(until);
        let ignored = sync.users.ignored_users(caller.user)?;
        let (mut events, cut) = read_arrivals(&sync.rooms, view.room(), since, until)?;
        events.retain(|event| event.flags().is_visible() && !is_ignored(&ignored, event));
        let events = view.visible(events)?;
        self.cut = self.cut.into_iter().chain(cut).min();
        let place = self.views.len();
        self.events.extend(events.into_iter().map(|event| Shown { event, view: place }));
        self.views.push(view);
        if self.events.len() > MAX_EVENTS {
            // What does not fit is not kept, nor looked for in further rooms.
            self.finish();
        }
        Ok(())
    }

    /// Puts the events in the order in which they came, and keeps so many that one answer is not too large. Returns up
    /// to where it tells everything, if that is not the end.
    fn finish(&mut self) -> Option<StreamPos> {
        self.events.sort_by_key(|shown| (shown.event.pos(), shown.view, shown.event.seq()));
        // What one commit brought is not torn apart: a token names a commit.
        let last = self.events.get(MAX_EVENTS - 1).filter(|_| self.events.len() > MAX_EVENTS);
        self.cut = self.cut.into_iter().chain(last.map(|shown| shown.event.pos())).min();
        if let Some(cut) = self.cut {
            self.events.retain(|shown| shown.event.pos() <= cut);
        }
        self.cut
    }
}

/// The events that came to a room after `since` and up to `until`, oldest first; and the position up to which these are
/// all, if there are too many.
fn read_arrivals(
    rooms: &Rooms,
    room: RoomNid,
    since: StreamPos,
    until: StreamPos,
) -> Result<(Vec<Event>, Option<StreamPos>), SyncError> {
    let (after, last) = (rooms.seq_at(room, since)?, rooms.seq_at(room, until)?);
    // Numbers are dense, and given in the order of commits.
    let count = usize::try_from(last.0.saturating_sub(after.0)).unwrap_or(0);
    let mut events = rooms.events_after(room, after, count.min(MAX_EVENTS + 1))?;
    let is_one_commit = |events: &[Event]| events.first().map(Event::pos) == events.last().map(Event::pos);
    if count > events.len() && is_one_commit(&events) {
        events = rooms.events_after(room, after, count.min(MAX_SCANNED))?;
    }
    if count <= events.len() {
        return Ok((events, None));
    }
    // Of the last commit there may be more: it is for the next answer, unless it is the only one.
    let last = events.last().map(Event::pos);
    let cut = events.iter().rev().map(Event::pos).find(|pos| Some(*pos) != last).or(last);
    let cut = cut.filter(|cut| *cut < until);
    events.retain(|event| event.pos() <= cut.unwrap_or(until));
    Ok((events, cut))
}

impl SyncToken {
    /// A token that says of events alone where a client stands: of all else it has been told nothing.
    pub(crate) fn of_events(pos: StreamPos) -> SyncToken {
        SyncToken { pos, to_device: StreamPos::ZERO, epoch: 0, typing: 0, presence: 0 }
    }
}
