//! Memberships of rooms that this server is not in: invitations from other servers, knocks, and how
//! they end (Server-Server API §Inviting to a room, §Knocking on a Room, §Leaving Rooms).
//!
//! Nothing here can judge such an event: the room's state is elsewhere. So its row is an outlier that
//! is not found by its event id, and proves nothing: should the event come again with the room's
//! state, it is stored again, and judged.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use spec::ids::UserId;
use spec::pdu::Pdu;
use spec::version::RoomVersion;
use storage::Read;

use crate::append::Append;
use crate::checked::CheckedPdu;
use crate::error::RoomError;
use crate::event::{Event, EventFlags, EventRow};
use crate::ids::{RoomNid, SnapshotId, UserNid};
use crate::keyspaces::STRIPPED;
use crate::membership::Membership;
use crate::rooms::Rooms;

/// The most events of stripped state that are kept for one invitation or knock.
const MAX_STRIPPED_EVENTS: usize = 100;
/// The most bytes of stripped state that are kept for one invitation or knock.
const MAX_STRIPPED_BYTES: usize = 64 * 1024;

/// What of a state event is kept and shown (Client-Server API §Stripped state).
#[derive(Serialize, Deserialize)]
struct Stripped {
    content: Map<String, Value>,
    sender: String,
    state_key: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Rooms {
    /// Takes in an invitation of a user of this server to a room that it is not in, with what the
    /// inviting server tells of the room; more than 100 events or 64 KiB of that are dropped. If this
    /// server is in the room the event comes with the room's others: the invitation is kept, and shown
    /// if it turns out that nobody here is in the room any more. Cancel-safe: once submitted, it is
    /// carried out.
    ///
    /// # Errors
    /// [`RoomError::Invalid`] if it is no invitation of such a user, or the room has another version.
    pub async fn receive_invite(
        &self,
        invite: CheckedPdu,
        version: RoomVersion,
        room_state: Vec<Box<RawValue>>,
    ) -> Result<(), RoomError> {
        let user = self.local_member(invite.pdu(), &[Membership::Invite])?;
        self.keep_outside(invite, version, user, Membership::Invite, room_state).await
    }

    /// Takes in a knock of a user of this server that a server in the room has accepted, with what
    /// that tells of the room; bounded as for [`Rooms::receive_invite`]. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::Invalid`] if it is no knock of such a user, or the room has another version.
    pub async fn receive_knock(
        &self,
        knock: CheckedPdu,
        version: RoomVersion,
        room_state: Vec<Box<RawValue>>,
    ) -> Result<(), RoomError> {
        let user = self.local_member(knock.pdu(), &[Membership::Knock])?;
        if knock.pdu().sender != user {
            return Err(RoomError::Invalid("one can knock for oneself only"));
        }
        self.keep_outside(knock, version, user, Membership::Knock, room_state).await
    }

    /// Ends the invitation or knock of a user of this server in a room that it is not in: by their own
    /// leave event that a server in the room has accepted, or by that of whoever invited them; or,
    /// without an event, for this server alone, as no other could be reached. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::NotInRoom`] without an invitation or knock; [`RoomError::Refused`] for an event
    /// of somebody who has no say in it or from before the invitation, and if this server is in the room.
    pub async fn leave_unresident(
        &self,
        user: &UserId,
        room: RoomNid,
        leave: Option<CheckedPdu>,
    ) -> Result<(), RoomError> {
        if let Some(leave) = &leave {
            let target = self.local_member(leave.pdu(), &[Membership::Leave, Membership::Ban])?;
            if target != *user {
                return Err(RoomError::Invalid("the event is about another user"));
            }
            self.intern_people([leave]).await?;
        }
        let (user, nid) = (user.clone(), self.user_nid(user)?.ok_or(RoomError::NotInRoom)?);
        self.submit_job(room, move |append| append.end_outside(&user, nid, leave)).await
    }

    /// What the user was told of the room with an invitation or knock while this server is not in it:
    /// stripped state events, as JSON objects. `None` if nothing is kept.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn stripped_state(&self, room: RoomNid, user: UserNid) -> Result<Option<Vec<Box<RawValue>>>, RoomError> {
        let Some(kept) = self.store.get(&STRIPPED, &(room, user))? else { return Ok(None) };
        let events = serde_json::from_slice(&kept).map_err(|_| RoomError::Inconsistent("malformed stripped state"))?;
        Ok(Some(events))
    }

    /// The user of this server that a member event is about, if it sets one of these memberships.
    fn local_member(&self, pdu: &Pdu, wanted: &[Membership]) -> Result<UserId, RoomError> {
        #[derive(Deserialize)]
        struct Content<'a> {
            #[serde(borrow)]
            membership: std::borrow::Cow<'a, str>,
        }
        let content = pdu.content::<Content<'_>>().ok().filter(|_| &*pdu.kind == "m.room.member");
        if !content.and_then(|content| Membership::parse(&content.membership)).is_some_and(|is| wanted.contains(&is)) {
            return Err(RoomError::Invalid("the event does not set the membership that it should"));
        }
        let user = pdu.state_key.as_deref().and_then(|user| UserId::parse(user).ok());
        let user = user.filter(|user| user.server_name() == self.server_name().as_str());
        user.ok_or(RoomError::Invalid("the event is not about a user of this server"))
    }

    async fn keep_outside(
        &self,
        pdu: CheckedPdu,
        version: RoomVersion,
        user: UserId,
        membership: Membership,
        room_state: Vec<Box<RawValue>>,
    ) -> Result<(), RoomError> {
        self.intern_people([&pdu]).await?;
        let user = self.user_nid(&user)?.ok_or(RoomError::Inconsistent("member without a number"))?;
        let room = self.begin_room(&pdu.pdu().room_id, version).await?;
        let stripped = write_stripped(&room_state)?;
        self.submit_job(room, move |append| append.add_outside(pdu.pdu(), user, membership, stripped)).await
    }
}

impl Append<'_> {
    fn add_outside(
        &mut self,
        pdu: &Arc<Pdu>,
        user: UserNid,
        membership: Membership,
        stripped: Vec<u8>,
    ) -> Result<(), RoomError> {
        let room = self.head.room;
        if self.rooms.is_resident(room)? {
            return match membership {
                Membership::Invite => self.keep_early_invite(pdu, user, stripped),
                _ => Ok(()),
            };
        }
        if let Some(row) = self.member_row(user)?
            && self.rooms.event_at(room, row.seq)?.event_id() == pdu.event_id.as_str()
        {
            return Ok(());
        }
        self.place_outside(pdu, user, membership)?;
        self.batch.put(&STRIPPED, &(room, user), &stripped);
        Ok(())
    }

    fn end_outside(&mut self, user: &UserId, nid: UserNid, leave: Option<CheckedPdu>) -> Result<(), RoomError> {
        let room = self.head.room;
        if self.rooms.is_resident(room)? {
            return Err(RoomError::Refused("this server is in the room"));
        }
        let row = self.member_row(nid)?.ok_or(RoomError::NotInRoom)?;
        if !matches!(row.membership, Membership::Invite | Membership::Knock) {
            return Err(RoomError::NotInRoom);
        }
        let ended = self.rooms.event_at(room, row.seq)?;
        let Some(leave) = leave else {
            let pdu = self.build_leave(user, &ended)?;
            return self.place_outside(&pdu, nid, Membership::Leave);
        };
        let pdu = leave.pdu();
        if pdu.room_id != self.head.room_id {
            return Err(RoomError::Invalid("the event is of another room"));
        }
        // Who else may is for the room's state to say, which is not here.
        if pdu.sender != *user && pdu.sender.as_str() != ended.sender() {
            return Err(RoomError::Refused("only the user and who invited them can end an invitation"));
        }
        // Anybody can deliver an old leave again; what came before the invitation does not end it.
        if pdu.depth <= ended.depth() {
            return Err(RoomError::Refused("the event is older than the invitation"));
        }
        let (_, membership) = self.read_member(pdu)?.ok_or(RoomError::Invalid("no member event"))?;
        self.place_outside(pdu, nid, membership)
    }

    /// Adds the row of a member event that nothing here can judge, and the membership.
    pub(crate) fn place_outside(
        &mut self,
        pdu: &Arc<Pdu>,
        user: UserNid,
        membership: Membership,
    ) -> Result<(), RoomError> {
        let sender = self.rooms.user_nid(&pdu.sender)?.ok_or(RoomError::Inconsistent("sender without a number"))?;
        let replaces = self.member_row(user)?.map(|row| row.seq);
        let head = &mut self.head.row;
        let seq = head.next_outlier;
        head.next_outlier = seq.next();
        head.arrivals = head.arrivals.saturating_add(1);
        let row = EventRow {
            flags: EventFlags::OUTLIER,
            sender,
            before: SnapshotId::EMPTY,
            after: SnapshotId::EMPTY,
            arrival: head.arrivals,
            replaces,
            redacted_by: None,
            transaction: None,
            pdu: pdu.clone(),
        };
        self.events.insert(seq, row);
        self.add_membership(user, membership, seq)
    }

    /// A leave event that no other server gets: what the user's clients are shown.
    fn build_leave(&self, user: &UserId, ended: &Event) -> Result<Arc<Pdu>, RoomError> {
        let rules = self.head.rules();
        let cited = match rules.pair_references {
            true => json!([[ended.event_id(), {}]]),
            false => json!([ended.event_id()]),
        };
        let mut object = Map::new();
        object.insert("auth_events".into(), cited.clone());
        object.insert("prev_events".into(), cited);
        object.insert("content".into(), json!({"membership": Membership::Leave.as_str()}));
        object.insert("depth".into(), ended.depth().saturating_add(1).clamp(0, spec::canonical::MAX_INTEGER).into());
        object.insert("origin_server_ts".into(), (self.rooms.clock.now_ms() as i64).into());
        object.insert("room_id".into(), self.head.room_id.as_str().into());
        object.insert("sender".into(), user.as_str().into());
        object.insert("state_key".into(), user.as_str().into());
        object.insert("type".into(), "m.room.member".into());
        if rules.pair_references {
            let id = format!("${}:{}", self.rooms.random.token(24), self.rooms.server_name.as_str());
            object.insert("event_id".into(), id.into());
            object.insert("origin".into(), self.rooms.server_name.as_str().into());
        }
        Ok(Arc::new(Pdu::sign(object, &self.rooms.server_name, &self.rooms.signing_key, rules)?))
    }
}

/// What of the state told by another server is kept: what has the shape of state events, reduced to
/// what clients are shown.
fn write_stripped(events: &[Box<RawValue>]) -> Result<Vec<u8>, RoomError> {
    let mut out = vec![b'['];
    let mut kept = 0;
    for event in events {
        if kept >= MAX_STRIPPED_EVENTS {
            break;
        }
        let Ok(event) = serde_json::from_str::<Stripped>(event.get()) else { continue };
        let json = serde_json::to_vec(&event).map_err(|_| RoomError::Inconsistent("an event cannot be written"))?;
        if out.len() + json.len() + 2 > MAX_STRIPPED_BYTES {
            continue;
        }
        if kept > 0 {
            out.push(b',');
        }
        out.extend_from_slice(&json);
        kept += 1;
    }
    out.push(b']');
    Ok(out)
}
