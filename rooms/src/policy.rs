//! Rooms that use a policy server: another server that recommends each event, by a signature, before it is sent or
//! shown (Server-Server API §Policy Servers).
//!
//! The port through which it is asked is implemented by the federation edge. It is asked outside of the room's queue:
//! for events of ours in `policy/ours.rs`, for those of other servers here, before the writer judges them.

mod ours;

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Map, Value};
use spec::ids::ServerName;
use spec::pdu::{Pdu, PduError};
use spec::policy::{PolicyFailure, PolicyServer, is_asked_for};
use spec::version::RoomVersionRules;

use crate::checked::{Advice, CheckedPdu};
use crate::error::RoomError;
use crate::head::Head;
use crate::ids::RoomNid;
use crate::receive::{Received, Verdict};
use crate::remote::Remote;
use crate::rooms::Rooms;

pub(crate) use ours::{Asking, Drafted};

/// How many events of one command of another server's are asked for at a time.
const MAX_ASKED: usize = 8;
/// How long the events of such a command wait for recommendations, all together. Those that have none by then go on
/// without.
const ASKING_TIME: Duration = Duration::from_secs(30);

/// A question to a policy server.
#[derive(Clone, Copy, Debug)]
pub struct PolicyQuestion<'a> {
    /// Whom to ask.
    pub server: &'a ServerName,
    /// The event to sign.
    pub event: &'a Pdu,
    /// Somebody here waits for the answer: the server is to be asked even if it failed lately.
    pub is_urgent: bool,
}

/// The way to policy servers. Has its own time limit and bounds the answer.
pub trait PolicyServers: Send + Sync {
    /// Asks a policy server to sign an event, and returns what it answered, unverified: signatures by server and key
    /// (`POST /_matrix/policy/v1/sign`). Fails with [`RoomError::NotRecommended`] if it answers an error, and with
    /// [`RoomError::RemoteUnavailable`] if it does not answer.
    fn sign<'a>(&'a self, question: PolicyQuestion<'a>) -> Remote<'a, Map<String, Value>>;
}

impl Rooms {
    /// The policy server that the room uses: that of its current state, if a user of that server is joined. Costs
    /// nothing but a look at the cached head in rooms whose state names none.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn policy_server(&self, room: RoomNid) -> Result<Option<Arc<PolicyServer>>, RoomError> {
        let head = self.head(room)?;
        self.policy_of(&head)
    }

    fn policy_of(&self, head: &Head) -> Result<Option<Arc<PolicyServer>>, RoomError> {
        let Some(policy) = &head.policy else { return Ok(None) };
        Ok(self.is_server_joined(head.room, policy.via())?.then(|| policy.clone()))
    }

    /// An event that is about to be sent, or to be taken in for another server that waits for it, with the signature of
    /// the room's policy server; as it is where the room uses none. Cancel-safe: nothing is stored.
    ///
    /// # Errors
    /// [`RoomError::NotRecommended`] and [`RoomError::Refused`] if the policy server does not sign;
    /// [`RoomError::RemoteUnavailable`] if it cannot be asked.
    pub async fn recommend(&self, room: RoomNid, event: CheckedPdu) -> Result<CheckedPdu, RoomError> {
        self.recommend_by(room, event, true).await
    }

    async fn recommend_by(&self, room: RoomNid, event: CheckedPdu, is_urgent: bool) -> Result<CheckedPdu, RoomError> {
        let head = self.head(room)?;
        let Some(policy) = self.policy_of(&head)? else { return Ok(event) };
        if is_signed(&policy, event.pdu(), head.rules()) || self.is_known(room, &event)? {
            return Ok(event.advised(Advice::Recommended));
        }
        let pdu = self.ask(&policy, event.pdu(), head.rules(), is_urgent).await?;
        Ok(event.signed(pdu))
    }

    /// Events of other servers, with what the room's policy server says of them: those that it has not signed it is
    /// asked for, some at a time, and the signature that it gives is kept with the event. What is not recommended will
    /// be soft-failed. For those who want to wait for that before they submit events; [`Rooms::receive_all`] asks for
    /// what was not asked for before. It is the room's policy server of this moment that is asked: what follows an
    /// event that [names another](names_policy_server) is to be asked for once that is submitted. Cancel-safe: nothing
    /// is stored.
    ///
    /// # Errors
    /// Storage errors; [`RoomError::Busy`].
    pub async fn look_for_advice(&self, room: RoomNid, events: Vec<CheckedPdu>) -> Result<Vec<CheckedPdu>, RoomError> {
        let head = self.head(room)?;
        let Some(policy) = self.policy_of(&head)? else { return Ok(events) };
        let (rules, check) = (head.rules(), policy.clone());
        let verify = move || {
            let advise = |event: CheckedPdu| match event.advice {
                Advice::Unknown if is_signed(&check, event.pdu(), rules) => event.advised(Advice::Recommended),
                _ => event,
            };
            events.into_iter().map(advise).collect::<Vec<_>>()
        };
        let checked = self.tasks.compute("check recommendations", verify).await.map_err(|_| RoomError::Busy)?;
        let deadline = self.clock.monotonic().saturating_add(ASKING_TIME);
        let asked = stream::iter(checked).map(|event| self.advise(&policy, &head, event, deadline));
        asked.buffered(MAX_ASKED).collect::<Vec<_>>().await.into_iter().collect()
    }

    /// [`Rooms::look_for_advice`] for what is to be submitted next.
    pub(crate) async fn advise_all(
        &self,
        room: RoomNid,
        mut received: Vec<Received>,
    ) -> Result<Vec<Received>, RoomError> {
        if self.policy_server(room)?.is_none() {
            return Ok(received);
        }
        let events = received.iter().map(|received| received.pdu.clone()).collect();
        for (received, advised) in received.iter_mut().zip(self.look_for_advice(room, events).await?) {
            received.pdu = advised;
        }
        Ok(received)
    }

    /// What would become of an event of another server's if it were submitted now: for those who want to know that
    /// before they have the room's policy server asked for it. Cancel-safe: nothing is stored but who the event is of.
    ///
    /// # Errors
    /// As [`Rooms::receive_all`].
    pub async fn foresee(&self, room: RoomNid, event: CheckedPdu) -> Result<Verdict, RoomError> {
        self.intern_people([&event]).await?;
        self.try_job(room, move |append| append.receive(event.into(), None)).await
    }

    async fn advise(
        &self,
        policy: &PolicyServer,
        head: &Head,
        event: CheckedPdu,
        deadline: Duration,
    ) -> Result<CheckedPdu, RoomError> {
        if event.advice != Advice::Unknown || self.is_known(head.room, &event)? {
            return Ok(event);
        }
        let left = deadline.saturating_sub(self.clock.monotonic());
        let asking = self.ask(policy, event.pdu(), head.rules(), false);
        let reason = match self.clock.timeout(left, asking).await {
            Some(Ok(pdu)) => return Ok(event.signed(pdu)),
            // It is recommended, only nobody else will see that from the event.
            Some(Err(RoomError::BadEvent(PduError::TooLarge))) => return Ok(event.advised(Advice::Recommended)),
            Some(Err(error)) => error.to_string(),
            None => "its policy server took too long".to_owned(),
        };
        let (event_id, via) = (&event.pdu().event_id, policy.via());
        tracing::debug!(room = head.room.0, %event_id, %via, reason, "an event is not recommended");
        Ok(event.advised(Advice::NotRecommended))
    }

    /// Whether the event is part of the room already, so that no advice changes what became of it.
    fn is_known(&self, room: RoomNid, event: &CheckedPdu) -> Result<bool, RoomError> {
        Ok(self.unknown_events(room, std::slice::from_ref(&event.pdu().event_id), false)?.is_empty())
    }

    /// Asks for a signature, and adds it.
    async fn ask(
        &self,
        policy: &PolicyServer,
        event: &Arc<Pdu>,
        rules: &RoomVersionRules,
        is_urgent: bool,
    ) -> Result<Arc<Pdu>, RoomError> {
        let unavailable = || RoomError::RemoteUnavailable(format!("the room's policy server {}", policy.via()));
        if !policy.has_key() {
            return Err(RoomError::Refused("the room names no usable key of its policy server"));
        }
        let servers = self.policy_servers.as_deref().ok_or_else(unavailable)?;
        let answer = servers.sign(PolicyQuestion { server: policy.via(), event, is_urgent }).await?;
        match policy.add_signature(event, &answer, rules) {
            Ok(signed) => Ok(Arc::new(signed)),
            Err(PolicyFailure::Event(error)) => Err(error.into()),
            Err(PolicyFailure::NoKey | PolicyFailure::Signature(_)) => Err(RoomError::Refused(
                "the room's policy server did not sign the event with the key that the room names",
            )),
        }
    }
}

/// Whether an event is the one by which a room names its policy server, or gives it up: no policy server is asked for
/// it, and with it the one to ask may change.
#[must_use]
pub fn names_policy_server(event: &Pdu) -> bool {
    !is_asked_for(&event.kind, event.state_key.as_deref())
}

/// Whether an event needs nothing from the room's policy server.
fn is_signed(policy: &PolicyServer, event: &Pdu, rules: &RoomVersionRules) -> bool {
    names_policy_server(event) || policy.verify(event, rules).is_ok()
}
