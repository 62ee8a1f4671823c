//! Joining a room that this server is in, but cannot let others into by itself: because it is restricted and nobody here
//! has the power (Server-Server API §Restricted rooms), or because its members are not known here yet. Another server does.

use rooms::{CheckedPdu, Membership, MembershipChange, Received, RestrictedJoin, RoomError, RoomNid, Verdict};
use spec::ids::{ServerName, UserId};
use std::ops::ControlFlow;
use std::time::Duration;

use crate::Federation;
use crate::remote::failure::{Attempts, Failure, blame};
use crate::remote::handshake::Step;
use crate::remote::join::{Keep, choose_join, make_join, send_join};
use crate::remote::{Deadline, Entry};

/// How long an invitation of ours is waited for at each further try of a join, in milliseconds: ten seconds in all, as a
/// client waits for the answer.
const INVITE_TRAVELS: [u64; 8] = [100, 200, 400, 800, 1500, 2000, 2500, 2500];

/// Joins a room that this server is in: by itself if the rules allow it, or else through a server that may let the
/// user in; a partial room always through another one, which knows whether the user may come in. Where somebody here has
/// invited the user, the other servers are given some seconds to hear of it.
///
/// # Errors
/// What forbids the join; what the servers that were asked say.
pub(crate) async fn join_resident(federation: &Federation, nid: RoomNid, entry: &Entry) -> Result<(), RoomError> {
    let change = MembershipChange {
        sender: entry.user.clone(),
        target: entry.user.clone(),
        membership: Membership::Join,
        content: entry.content.clone(),
    };
    let (refusal, candidates) = match federation.rooms.change_membership(&entry.room, change).await {
        Err(refusal @ RoomError::Forbidden(_)) => {
            if federation.rooms.judge_restricted_join(nid, &entry.user)? != RestrictedJoin::NobodyMay {
                return Err(refusal);
            }
            (refusal, federation.authorising_candidates(nid, &entry.room, &entry.via)?)
        }
        Err(refusal @ RoomError::NotResident) => {
            (refusal, federation.entry_candidates(&entry.room, &entry.user, &entry.via)?)
        }
        result => return result,
    };
    if candidates.is_empty() {
        return Err(refusal);
    }
    let deadline = Deadline::after(&federation.clock, federation.config.join_timeout.duration());
    let mut patience = federation.patience_for(nid, &entry.user)?;
    loop {
        let outcome = join_through_one_of(federation, &candidates, nid, entry, &deadline).await;
        let is_forbidden = matches!(outcome, Err(RoomError::RemoteRefused { status: 403, .. }));
        match patience.next().filter(|_| is_forbidden && !deadline.is_over()) {
            Some(wait) => federation.clock.sleep(wait).await,
            None => return outcome,
        }
    }
}

/// Tries one server after the other.
async fn join_through_one_of(
    federation: &Federation,
    servers: &[ServerName],
    nid: RoomNid,
    entry: &Entry,
    deadline: &Deadline,
) -> Result<(), RoomError> {
    let mut attempts = Attempts::default();
    for server in servers {
        if deadline.is_over() {
            break;
        }
        let outcome = authorise_through(federation, server, nid, entry, deadline).await;
        if let ControlFlow::Break(end) = attempts.weigh(outcome) {
            return end;
        }
    }
    Err(attempts.into_error())
}

async fn authorise_through(
    federation: &Federation,
    server: &ServerName,
    nid: RoomNid,
    entry: &Entry,
    deadline: &Deadline,
) -> Result<(), Failure> {
    let template = make_join(federation, server, entry, deadline).await?;
    let version = template.version;
    let join = CheckedPdu::of_ours(template.complete(federation, Step::Join, server, entry)?);
    // The room is known here, so that it is on us to ask its policy server.
    let join = federation.rooms.recommend(nid, join).await?.pdu().clone();
    let (rest, _) = send_join(federation, server, version, &join, Keep::Event, deadline).await?;
    let join = choose_join(federation, server, version, join, rest.event.as_deref()).await?;
    federation.receive_from(server, nid, join).await
}

impl Federation {
    /// The waits after which a join that other servers forbid is tried again: some if somebody here has invited the user,
    /// as the invitation may still be on its way to them.
    ///
    /// # Errors
    /// Storage errors only.
    fn patience_for(&self, room: RoomNid, user: &UserId) -> Result<impl Iterator<Item = Duration> + use<>, RoomError> {
        let user = self.rooms.user_nid(user)?;
        let row = user.map(|user| self.rooms.membership(room, user)).transpose()?.flatten();
        let inviter = match row.filter(|row| row.membership == Membership::Invite) {
            Some(row) => self.rooms.event_at(room, row.seq)?.sender_id(),
            None => None,
        };
        let is_ours = inviter.is_some_and(|inviter| inviter.server_name() == self.server_name.as_str());
        Ok(INVITE_TRAVELS.into_iter().filter(move |_| is_ours).map(Duration::from_millis))
    }

    /// Takes one event of ours, which `server` has taken in and passes on, into a room that this server is in. What it
    /// follows and is not known here is left to the gap filler: the state before the event is asked of `server`. In a
    /// partial room that waits until the event is judged again.
    ///
    /// # Errors
    /// The other server's fault if the event is not allowed in the room.
    pub(crate) async fn receive_from(&self, server: &ServerName, nid: RoomNid, pdu: CheckedPdu) -> Result<(), Failure> {
        let event_id = pdu.pdu().event_id.clone();
        let first = Received { later: true, told: true, ..pdu.clone().into() };
        let verdict = match self.rooms.receive_all(nid, vec![first]).await?.into_iter().next() {
            Some(Err(RoomError::Missing(_))) => {
                let servers = std::slice::from_ref(server);
                let state = crate::inbound::fetch_state_before(self, nid, &event_id, servers).await?;
                let again = Received { state_before: Some(state), told: true, ..pdu.into() };
                self.rooms.receive_all(nid, vec![again]).await?.into_iter().next()
            }
            verdict => verdict,
        };
        match verdict {
            Some(Ok(Verdict::Accepted | Verdict::Known)) => Ok(()),
            Some(Ok(Verdict::SoftFailed(reason) | Verdict::Rejected(reason))) => {
                Err(Failure::malformed(server, format!("the event is not allowed: {reason}")))
            }
            Some(Err(error)) => Err(blame(server, error)),
            None => Err(Failure::Local(RoomError::Inconsistent("an event without a verdict"))),
        }
    }
}
