//! What joining, leaving and knocking have in common: a template of a member event for a user of another server, and
//! taking the event in once their server has signed it (Server-Server API §Joining Rooms, §Leaving Rooms,
//! §Knocking upon a room).

use std::sync::Arc;

use rooms::{CheckedPdu, Deed, Draft, Head, Membership, Received, RoomError, RoomNid, Verdict};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::hash;
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::pdu::{Pdu, ReceivedPdu};
use spec::version::RoomVersionRules;

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::serve::access::find_resident_room;
use crate::serve::answer::{Answer, answer};
use crate::serve::arguments::Query;

/// How many room versions a server may list.
const MAX_VERSIONS: usize = 100;

/// A member event that another server wants to make, or has made, about a user of its own.
pub(crate) struct Handshake<'a> {
    /// This server.
    pub federation: &'a Federation,
    /// The other server.
    pub origin: &'a ServerName,
    /// The room's id.
    pub room_id: &'a RoomId,
    /// The room: this server is in it, and the other one is not kept out.
    pub room: RoomNid,
    /// The room's present.
    pub head: Arc<Head>,
    /// What the user is to become.
    pub membership: Membership,
}

impl<'a> Handshake<'a> {
    /// Finds the room.
    ///
    /// # Errors
    /// `M_NOT_FOUND` if this server is not in it, or does not know all its members yet; `M_FORBIDDEN` by its access
    /// control list.
    pub fn begin(
        federation: &'a Federation,
        origin: &'a ServerName,
        room_id: &'a RoomId,
        membership: Membership,
    ) -> Result<Handshake<'a>, ServeError> {
        let room = find_resident_room(federation, room_id, origin)?;
        let head = federation.rooms.head(room)?;
        if head.is_partial() {
            // Who is banned, or has left, is not known: other servers are (MSC3902).
            return Err(RoomError::NotResident.into());
        }
        Ok(Handshake { federation, origin, room_id, room, head, membership })
    }

    /// Refuses users of other servers than the one that asks, and those who are kept away from this one.
    ///
    /// # Errors
    /// `M_FORBIDDEN`.
    pub fn check_user(&self, user: &UserId) -> Result<(), ServeError> {
        if user.server_name() != self.origin.as_str() {
            return Err(ServeError::forbidden("the user is not of your server"));
        }
        self.check_gate(user)
    }

    /// Whether this server has anything to do with the user's coming.
    fn check_gate(&self, user: &UserId) -> Result<(), ServeError> {
        let deed = Deed { membership: self.membership, sender: user, target: user, room: Some(self.room_id) };
        Ok(self.federation.rooms.check_gate(&deed)?)
    }

    /// Refuses servers that do not support the room's version, by the `ver` of the query; `[1]` if there is none.
    ///
    /// # Errors
    /// `M_INCOMPATIBLE_ROOM_VERSION`.
    pub fn check_versions(&self, query: &Query) -> Result<(), ServeError> {
        let own = self.head.version().as_str();
        let mut given = query.all("ver").take(MAX_VERSIONS).peekable();
        let mut is_supported = given.peek().is_none() && own == "1";
        for version in given {
            is_supported |= version? == own;
        }
        if is_supported { Ok(()) } else { Err(ServeError::incompatible_room_version(own)) }
    }

    /// Answers with an event for the other server to complete and sign. It is allowed by the room's state now.
    ///
    /// # Errors
    /// `M_FORBIDDEN` if the room does not allow it.
    pub fn answer_template(&self, user: &UserId, mut content: Map<String, Value>) -> Answer {
        content.insert("membership".into(), self.membership.as_str().into());
        let draft = Draft::state(user.clone(), "m.room.member", user.as_str(), content);
        let mut event = self.federation.rooms.prepare(self.room, draft)?;
        event.insert("origin".into(), self.federation.server_name.as_str().into());
        answer(&json!({"room_version": self.head.version().as_str(), "event": event}))
    }

    /// Checks that an event is the member event that the request says, of a user of the server that sends it.
    ///
    /// # Errors
    /// `M_INVALID_PARAM`, or what is wrong with the event's format; `M_FORBIDDEN` by the gate.
    pub fn read_event(&self, raw: Map<String, Value>, event_id: &EventId) -> Result<ReceivedPdu, ServeError> {
        let invalid = |message: &'static str| Err(ServeError::invalid_param(message));
        if !hash::content_hash_matches(&raw) {
            return invalid("the event's hash does not match its content");
        }
        let received = ReceivedPdu::check(raw, self.head.rules())?;
        let pdu = received.unverified();
        if received.event_id() != event_id {
            return invalid("the event has another id");
        }
        if pdu.room_id != *self.room_id {
            return invalid("the event is of another room");
        }
        if &*pdu.kind != "m.room.member" {
            return invalid("not a member event");
        }
        if pdu.sender.server_name() != self.origin.as_str() {
            return invalid("the sender is not of your server");
        }
        if pdu.state_key.as_deref() != Some(pdu.sender.as_str()) {
            return invalid("the event is not about its sender");
        }
        if membership_of(pdu) != Some(self.membership) {
            return invalid("the event sets another membership");
        }
        self.check_gate(&pdu.sender)?;
        Ok(received)
    }

    /// Verifies the event, adds it to the room, and has it passed on to the other servers. Sending it twice is no
    /// error. The room's policy server, if it uses one, is asked only for what the room allows. Cancel-safe: once it is in the room's queue, it is carried out.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` if a signature is wrong; `M_FORBIDDEN` if the room does not allow the event, or its policy server
    /// does not recommend it.
    pub async fn take_in(&self, received: ReceivedPdu) -> Result<(), ServeError> {
        let rooms = &self.federation.rooms;
        let mut pdu = verify_event(self.federation, self.head.rules(), received).await?;
        let event_id = pdu.pdu().event_id.clone();
        if rooms.policy_server(self.room)?.is_some() {
            self.expect_allowed(&event_id, rooms.foresee(self.room, pdu.clone()).await?)?;
            pdu = rooms.recommend(self.room, pdu).await?;
        }
        let received = Received { relay: true, ..pdu.into() };
        let verdicts = rooms.receive_all(self.room, vec![received]).await?;
        let verdict = verdicts.into_iter().next().ok_or_else(|| ServeError::internal(&NoVerdict))??;
        let is_new = verdict == Verdict::Accepted;
        self.expect_allowed(&event_id, verdict)?;
        if is_new {
            let (origin, room_id, membership) = (self.origin, self.room_id, self.membership.as_str());
            tracing::info!(%origin, %room_id, %event_id, membership, "taken in");
        }
        Ok(())
    }

    fn expect_allowed(&self, event_id: &EventId, verdict: Verdict) -> Result<(), ServeError> {
        match verdict {
            Verdict::Accepted | Verdict::Known => Ok(()),
            Verdict::SoftFailed(reason) | Verdict::Rejected(reason) => {
                let (origin, room_id) = (self.origin, self.room_id);
                tracing::debug!(%origin, %room_id, %event_id, reason, "a member event is not allowed");
                Err(ServeError::forbidden(reason))
            }
        }
    }
}

/// Verifies hash and signatures of one event; the keys are fetched if they have to be.
///
/// # Errors
/// `M_INVALID_PARAM`.
pub(crate) async fn verify_event(
    federation: &Federation,
    rules: &'static RoomVersionRules,
    received: ReceivedPdu,
) -> Result<CheckedPdu, ServeError> {
    let checked = federation.keys.check_pdus(rules, vec![received]).await;
    let (event_id, checked) = checked.into_iter().next().ok_or_else(|| ServeError::internal(&NoVerdict))?;
    checked.map_err(|error| {
        tracing::debug!(%event_id, %error, "an event could not be verified");
        ServeError::invalid_param(error.to_string())
    })
}

/// The membership that a member event sets.
pub(crate) fn membership_of(pdu: &Pdu) -> Option<Membership> {
    #[derive(Deserialize)]
    struct Content<'a> {
        membership: &'a str,
    }
    Membership::parse(pdu.content::<Content<'_>>().ok()?.membership)
}

/// A list of answers was shorter than the list of questions.
#[derive(Debug, thiserror::Error)]
#[error("an event was neither taken in nor refused")]
struct NoVerdict;
