//! How somebody gets out of a room.

use std::time::{Duration, Instant};

use livekit_protocol as proto;
use proto::leave_request::Action;
use proto::signal_response::Message as Response;

use super::env::{Env, Notice};
use super::participant::State;
use super::{ParticipantId, Room};

/// Those who left are remembered, the newest, for clients that come back from a broken connection.
const MAX_DEPARTED: usize = 100;
/// A connection may be broken for this long before we notice.
const UNNOTICED_LOSS: Duration = Duration::from_secs(40);

/// Why somebody is no longer in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// They left.
    Client,
    /// The same identity joined again.
    Duplicate,
    /// Somebody with the power to do so removed them.
    Removed,
    /// The room is closed.
    RoomClosed,
    /// The server stops.
    Shutdown,
    /// The media connection is broken, or was never made.
    MediaLost,
    /// Nothing was heard of them for long.
    Silent,
}

impl Goodbye {
    fn reason(self) -> proto::DisconnectReason {
        match self {
            Goodbye::Client => proto::DisconnectReason::ClientInitiated,
            Goodbye::Duplicate => proto::DisconnectReason::DuplicateIdentity,
            Goodbye::Removed => proto::DisconnectReason::ParticipantRemoved,
            Goodbye::RoomClosed => proto::DisconnectReason::RoomClosed,
            Goodbye::Shutdown => proto::DisconnectReason::ServerShutdown,
            Goodbye::MediaLost => proto::DisconnectReason::MediaFailure,
            Goodbye::Silent => proto::DisconnectReason::ConnectionTimeout,
        }
    }

    /// Whether the client shall come back by itself.
    fn action(self) -> Action {
        match self {
            Goodbye::Shutdown | Goodbye::MediaLost | Goodbye::Silent => Action::Reconnect,
            _ => Action::Disconnect,
        }
    }

    /// The message that tells the client.
    pub fn message(self) -> Response {
        leave(self.reason(), self.action())
    }

    /// The answer to a client that wants to take up a session that is gone.
    pub fn no_session() -> Response {
        leave(proto::DisconnectReason::StateMismatch, Action::Reconnect)
    }

    /// The answer to a client that cannot be let in.
    pub fn refused() -> Response {
        leave(proto::DisconnectReason::JoinFailure, Action::Disconnect)
    }
}

fn leave(reason: proto::DisconnectReason, action: Action) -> Response {
    let can_reconnect = action == Action::Reconnect;
    Response::Leave(proto::LeaveRequest { can_reconnect, reason: reason as i32, action: action as i32, regions: None })
}

impl Room {
    /// Takes somebody out of the room and tells everybody.
    pub fn remove(&mut self, id: ParticipantId, goodbye: Goodbye, env: &mut Env<'_>) {
        let Some(participant) = self.participants.get_mut(id) else { return };
        if goodbye != Goodbye::Client {
            participant.send(goodbye.message());
        }
        let published = std::mem::take(&mut participant.published);
        let wanted: Vec<_> = participant.subscriptions.keys().copied().collect();
        for track in published {
            self.unpublish(track);
        }
        for track in wanted {
            self.unsubscribe(id, track);
        }
        let info = self.participant_info(id);
        let Some(participant) = self.participants.try_remove(id) else { return };
        self.by_identity.remove(&participant.grant.identity);
        self.unsettled.retain(|at| at.participant != id);
        for peer in [participant.main.as_ref(), participant.receiving.as_ref()].into_iter().flatten() {
            peer.unroute(env);
        }
        if let Some(mut info) = info {
            info.state = proto::participant_info::State::Disconnected as i32;
            info.version = participant.version.saturating_add(1);
            info.disconnect_reason = goodbye.reason() as i32;
            self.departed.push_back((env.now, info.clone()));
            if self.departed.len() > MAX_DEPARTED {
                self.departed.pop_front();
            }
            self.broadcast(Response::Update(proto::ParticipantUpdate { participants: vec![info] }), None);
        }
        let stats = participant.leg_stats(env.now);
        env.fixed.metrics.count_leave(goodbye);
        tracing::info!(
            room = %self.sid, participant = %participant.sid, reason = ?goodbye, seconds = stats.seconds,
            transport = stats.transport.name(), rtt_ms = stats.rtt_ms, loss_up = stats.loss_up,
            loss_down = stats.loss_down, bytes_up = stats.bytes_up, bytes_down = stats.bytes_down,
            "a participant left a call"
        );
        if participant.state == State::Active {
            env.out.notices.push(Notice::Left { identity: participant.grant.identity.clone(), stats });
        }
        if self.participants.is_empty() {
            self.empty_since = Some(env.now);
            self.stop_recording();
        }
    }

    /// Those who have left since shortly before `lost_at`, for somebody who was not told.
    pub(super) fn departed_since(&self, lost_at: Instant) -> Vec<proto::ParticipantInfo> {
        let told_by_then = |at: &Instant| lost_at.saturating_duration_since(*at) > UNNOTICED_LOSS;
        self.departed.iter().filter(|(at, _)| !told_by_then(at)).map(|(_, info)| info.clone()).collect()
    }

    /// Takes everybody out.
    pub fn close(&mut self, goodbye: Goodbye, env: &mut Env<'_>) {
        let everybody: Vec<_> = self.participants.iter().map(|(id, _)| id).collect();
        for id in everybody {
            self.remove(id, goodbye, env);
        }
    }

    /// Takes `identity` out, if it is there.
    pub fn remove_identity(&mut self, identity: &str, goodbye: Goodbye, env: &mut Env<'_>) {
        if let Some(id) = self.by_identity.get(identity).copied() {
            self.remove(id, goodbye, env);
        }
    }

    /// A signalling connection has ended; its participant may come back.
    pub fn lose_link(&mut self, id: ParticipantId, connection: u64, env: &Env<'_>) {
        let Some(participant) = self.participants.get_mut(id) else { return };
        // A newer connection may have taken its place.
        if participant.link.as_ref().is_none_or(|link| link.connection == connection) {
            participant.link = None;
            participant.lost_at.get_or_insert(env.now);
        }
    }

    /// Whether the room is to be closed: nobody has come, or everybody has gone, for long enough.
    pub fn is_over(&self, env: &Env<'_>) -> bool {
        let config = &env.fixed.config;
        let limit = if self.ever_joined { config.departure_timeout } else { config.empty_timeout };
        self.empty_since.is_some_and(|since| env.now.saturating_duration_since(since) >= limit.duration())
    }
}
