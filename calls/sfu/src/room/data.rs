//! Data messages between participants, over data channels.

use bytes::Bytes;
use livekit_protocol as proto;
use prost::Message;
use str0m::channel::{ChannelData, ChannelId};

use super::env::Env;
use super::participant::Participant;
use super::{Goodbye, PeerAt, Room};

/// The channel whose messages all arrive, in order.
pub const RELIABLE: &str = "_reliable";
/// The channel whose messages may get lost.
pub const LOSSY: &str = "_lossy";
/// Larger messages are dropped.
const MAX_MESSAGE: usize = 64 * 1024;
/// With more than this waiting, lossy messages are dropped.
const LOSSY_BACKLOG: usize = 64 * 1024;
/// A receiver for whom more than this waits reads too slowly to stay.
const RELIABLE_BACKLOG: usize = 4 * 1024 * 1024;
/// More named receivers are ignored.
const MAX_DESTINATIONS: usize = 1000;

impl Room {
    pub(super) fn open_channel(&mut self, at: PeerAt, id: ChannelId, label: &str) {
        let Some(peer) = self.peer(at) else { return };
        match label {
            RELIABLE => peer.channels.reliable = Some(id),
            LOSSY => peer.channels.lossy = Some(id),
            _ => return,
        }
        if let Some(mut channel) = peer.rtc.channel(id) {
            channel.set_buffered_amount_low_threshold(LOSSY_BACKLOG);
        }
        self.send_queued(at);
    }

    pub(super) fn close_channel(&mut self, at: PeerAt, id: ChannelId) {
        let Some(peer) = self.peer(at) else { return };
        for channel in [&mut peer.channels.reliable, &mut peer.channels.lossy] {
            if *channel == Some(id) {
                *channel = None;
            }
        }
    }

    pub(super) fn receive_data(&mut self, at: PeerAt, data: ChannelData, env: &mut Env<'_>) {
        let Some(peer) = self.peer(at) else { return };
        let reliable = peer.channels.reliable == Some(data.id);
        if reliable || peer.channels.lossy == Some(data.id) {
            self.relay_data(at, reliable, &data.data, env);
        }
    }

    /// A message of a participant, for all others or those it names.
    pub(crate) fn relay_data(&mut self, at: PeerAt, reliable: bool, data: &[u8], env: &mut Env<'_>) {
        let limit = u64::from(env.fixed.config.max_publish_kbits);
        let Some(sender) = self.participants.get_mut(at.participant) else { return };
        if !sender.grant.can_publish || data.len() > MAX_MESSAGE {
            return;
        }
        if !sender.meters.admit(data.len(), limit) {
            env.fixed.metrics.dropped.add(1);
            return;
        }
        let Ok(mut packet) = proto::DataPacket::decode(data) else { return };
        if reliable && packet.sequence > 0 {
            // After a resume a client sends again what may have been lost.
            if packet.sequence <= sender.last_sequence {
                return;
            }
            sender.last_sequence = packet.sequence;
        }
        packet.participant_identity.clone_from(&sender.grant.identity);
        packet.participant_sid.clone_from(&sender.sid);
        sign_user_packet(&mut packet, sender);
        let receivers: Vec<_> = if packet.destination_identities.is_empty() {
            self.participants.iter().map(|(id, _)| id).collect()
        } else {
            let named = packet.destination_identities.iter().take(MAX_DESTINATIONS);
            named.filter_map(|identity| self.by_identity.get(identity).copied()).collect()
        };
        let message = Bytes::from(packet.encode_to_vec());
        for receiver in receivers.into_iter().filter(|receiver| *receiver != at.participant) {
            let Some(side) = self.participants.get(receiver).map(|receiver| receiver.receiving_side()) else {
                continue;
            };
            let to = PeerAt { participant: receiver, side };
            if reliable {
                self.queue_data(to, message.clone(), env);
            } else {
                self.send_lossy(to, &message);
            }
        }
    }

    fn queue_data(&mut self, to: PeerAt, message: Bytes, env: &mut Env<'_>) {
        let Some(peer) = self.peer(to) else { return };
        peer.channels.queued_bytes = peer.channels.queued_bytes.saturating_add(message.len());
        peer.channels.queue.push_back(message);
        if peer.channels.queued_bytes > RELIABLE_BACKLOG {
            return self.remove(to.participant, Goodbye::MediaLost, env);
        }
        self.send_queued(to);
    }

    fn send_lossy(&mut self, to: PeerAt, message: &[u8]) {
        let Some(peer) = self.peer(to) else { return };
        let Some(mut channel) = peer.channels.lossy.and_then(|id| peer.rtc.channel(id)) else { return };
        if channel.buffered_amount() > LOSSY_BACKLOG {
            return;
        }
        // One that finds no room is lost, as its sender expects.
        let _ = channel.write(true, message);
        self.mark(to);
    }

    /// Sends what waits for the reliable channel, as far as it has room.
    pub(super) fn send_queued(&mut self, to: PeerAt) {
        let Some(peer) = self.peer(to) else { return };
        let Some(id) = peer.channels.reliable else { return };
        let mut sent = false;
        while let Some(message) = peer.channels.queue.front() {
            let Some(mut channel) = peer.rtc.channel(id) else { break };
            if !matches!(channel.write(true, message), Ok(true)) {
                break;
            }
            peer.channels.queued_bytes = peer.channels.queued_bytes.saturating_sub(message.len());
            peer.channels.queue.pop_front();
            sent = true;
        }
        if sent {
            self.mark(to);
        }
    }
}

/// Older fields of the most common message: its sender, and whom it is for.
#[expect(deprecated, reason = "clients of today still write and read these fields")]
fn sign_user_packet(packet: &mut proto::DataPacket, sender: &Participant) {
    let Some(proto::data_packet::Value::User(user)) = &mut packet.value else { return };
    user.participant_identity.clone_from(&sender.grant.identity);
    user.participant_sid.clone_from(&sender.sid);
    if packet.destination_identities.is_empty() {
        packet.destination_identities.clone_from(&user.destination_identities);
    }
}
