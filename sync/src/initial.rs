//! Snapshots: `GET /initialSync` (deprecated) and `GET /rooms/{roomId}/initialSync`, with which rooms are peeked into
//! (Client-Server API §Room previews).

use rooms::{Cursor, Direction, Event, EventFormat, Membership, Renderer, RoomView};
use spec::ids::RoomId;
use storage::StreamPos;
use users::Session;

use crate::error::SyncError;
use crate::filter::EventFilter;
use crate::invites::HiddenInvites;
use crate::json::{Array, Object, write_typed};
use crate::sync::{Inner, Sync};
use crate::token::SyncToken;

/// How many events of each room are shown at most.
const MAX_EVENTS: usize = 100;

impl Sync {
    /// All rooms of the caller with at most `limit` of their newest events, account data and presence, as JSON. Rooms
    /// that were left are in it if `archived`. Its `end` is for [`Sync::events`].
    ///
    /// # Errors
    /// Storage errors only.
    pub fn initial(&self, caller: &Session, limit: usize, archived: bool) -> Result<Vec<u8>, SyncError> {
        let inner = &*self.0;
        let until = inner.store.visible();
        let hidden = HiddenInvites::new(inner, caller)?;
        let mut out = Vec::with_capacity(64 * 1024);
        let mut answer = Object::open(&mut out);
        answer.text("end", &SyncToken::of_events(until).encode());
        let mut events = Array::open(answer.key("account_data"));
        for event in inner.users.all_account_data(caller.user)? {
            write_typed(events.item(), &event.kind, event.content.get());
        }
        events.close();
        let mut events = Array::open(answer.key("presence"));
        let (presence, _) = inner.read_presence(caller, 0)?;
        inner.write_presence(&presence, &EventFilter::default(), &mut events)?;
        events.close();
        let mut list = Array::open(answer.key("rooms"));
        for (room, row) in &*inner.rooms.user_rooms(caller.user)? {
            let view = inner.rooms.view(*room, caller.user)?;
            match row.membership {
                Membership::Join => inner.write_snapshot(caller, &view, until, limit, list.item())?,
                Membership::Invite => {
                    let invite = inner.rooms.event_at(*room, row.seq)?;
                    if !hidden.hides(&invite) {
                        write_invite(caller, &view, &invite, list.item())?;
                    }
                }
                Membership::Leave | Membership::Ban if archived && row.was_joined() && !row.forgotten => {
                    inner.write_snapshot(caller, &view, until, limit, list.item())?;
                }
                Membership::Leave | Membership::Ban | Membership::Knock => {}
            }
        }
        list.close();
        answer.close();
        Ok(out)
    }

    /// One room with at most `limit` of its newest events, as JSON: for members, former members, and for everybody if
    /// anyone may read it. `messages.end` is for [`Sync::events_in`] too.
    ///
    /// # Errors
    /// [`rooms::RoomError::NotInRoom`]; else storage errors.
    pub fn room_initial(&self, caller: &Session, room: &RoomId, limit: usize) -> Result<Vec<u8>, SyncError> {
        let inner = &*self.0;
        let until = inner.store.visible();
        let view = inner.rooms.as_user(room, caller.user)?;
        let mut out = Vec::with_capacity(16 * 1024);
        inner.write_snapshot(caller, &view, until, limit, &mut out)?;
        Ok(out)
    }
}

impl Inner {
    fn write_snapshot(
        &self,
        caller: &Session,
        view: &RoomView,
        until: StreamPos,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), SyncError> {
        let renderer = Renderer::new(view, Some(&caller.device_id), EventFormat::Client);
        let mut room = Object::open(out);
        room.text("room_id", view.head().room_id().as_str());
        if let Some(membership) = view.membership() {
            room.text("membership", membership.as_str());
        }
        let (events, start) = read_newest(view, until, limit.min(MAX_EVENTS))?;
        let mut messages = Object::open(room.key("messages"));
        if let Some(start) = start {
            messages.text("start", &start.to_string());
        }
        messages.text("end", &SyncToken::of_events(until).encode());
        renderer.render_all(&events, messages.key("chunk"))?;
        messages.close();
        renderer.render_all(&view.state_events()?, room.key("state"))?;
        let visibility = if self.rooms.is_public(view.room())? { "public" } else { "private" };
        room.text("visibility", visibility);
        let mut data = Array::open(room.key("account_data"));
        for event in self.users.all_room_account_data(caller.user, view.room())? {
            write_typed(data.item(), &event.kind, event.content.get());
        }
        data.close();
        room.close();
        Ok(())
    }
}

fn write_invite(caller: &Session, view: &RoomView, invite: &Event, out: &mut Vec<u8>) -> Result<(), SyncError> {
    let mut room = Object::open(out);
    room.text("room_id", view.head().room_id().as_str());
    room.text("membership", Membership::Invite.as_str());
    room.text("inviter", invite.sender());
    let renderer = Renderer::new(view, Some(&caller.device_id), EventFormat::Client);
    renderer.render(invite, room.key("invite"))?;
    room.close();
    Ok(())
}

/// The newest events of a room, oldest first, that had come by a position; and the place before the first of them, if
/// there are older ones.
fn read_newest(view: &RoomView, until: StreamPos, limit: usize) -> Result<(Vec<Event>, Option<Cursor>), SyncError> {
    let wanted = |event: &Event| event.pos() <= until;
    let page = view.page(view.newest()?, None, Direction::Backward, limit, &wanted)?;
    let mut events = page.events;
    events.reverse();
    Ok((events, page.end))
}
