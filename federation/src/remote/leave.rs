//! Refusing an invitation, or taking back a knock, where this server has nobody in the room (Server-Server API
//! §Leaving Rooms).

use std::sync::Arc;

use rooms::{CheckedPdu, Membership, MembershipChange, RoomError};
use spec::ids::ServerName;
use spec::pdu::Pdu;

use crate::Federation;
use crate::client::Ask;
use crate::remote::failure::{Failure, is_unknown_endpoint};
use crate::remote::handshake::{Step, ask_template, send_path, wire_object};
use crate::remote::{Deadline, Entry};

/// How long the user waits for other servers at most.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(40);
/// The most servers that are told.
const MAX_SERVERS: usize = 4;
/// The answer is an empty object.
const MAX_ANSWER: usize = 64 * 1024;

/// Leaves a room for a user of this server. They have left here even if no other server could be told.
///
/// # Errors
/// Storage errors; what forbids the leave in a room that this server is in.
pub(crate) async fn leave_room(federation: Federation, entry: Entry) -> Result<(), RoomError> {
    let _turn = federation.remote.take_turn(&entry.room).await;
    let nid = federation.rooms.known_room(&entry.room)?;
    if federation.rooms.is_resident(nid)? {
        let (sender, target, membership) = (entry.user.clone(), entry.user, Membership::Leave);
        let change = MembershipChange { sender, target, membership, content: entry.content };
        return federation.rooms.change_membership(&entry.room, change).await;
    }
    let deadline = Deadline::after(&federation.clock, PATIENCE);
    let mut told = None;
    for server in federation.entry_candidates(&entry.room, &entry.user, &[])?.into_iter().take(MAX_SERVERS) {
        if deadline.is_over() {
            break;
        }
        match leave_through(&federation, &server, &entry, &deadline).await {
            Ok(leave) => {
                told = Some(CheckedPdu::of_ours(leave));
                break;
            }
            Err(Failure::Local(error)) => return Err(error),
            Err(Failure::Remote(error)) => {
                let (room_id, destination) = (entry.room.as_str(), server.as_str());
                tracing::debug!(room_id, destination, %error, "a server was not told of a leave");
            }
        }
    }
    if told.is_none() {
        tracing::info!(room_id = entry.room.as_str(), "no server could be told of a leave; it holds here only");
    }
    match federation.rooms.leave_unresident(&entry.user, nid, told).await {
        // What the server made of it is no answer to the invitation: the user has left here all the same.
        Err(RoomError::Refused(_)) => federation.rooms.leave_unresident(&entry.user, nid, None).await,
        outcome => outcome,
    }
}

async fn leave_through(
    federation: &Federation,
    server: &ServerName,
    entry: &Entry,
    deadline: &Deadline,
) -> Result<Arc<Pdu>, Failure> {
    let template = ask_template(federation, Step::Leave, server, entry, deadline).await?;
    let leave = template.complete(federation, Step::Leave, server, entry)?;
    let body = wire_object(&leave)?;
    let ask = |version: &str| Ask {
        timeout: deadline.left(federation.config.request_timeout.duration()),
        max_bytes: MAX_ANSWER,
        despite_backoff: true,
        ..Ask::put(send_path(version, "send_leave", &leave), &body)
    };
    match federation.client.ask(server, ask("v2")).await {
        Err(error) if is_unknown_endpoint(&error) => federation.client.ask(server, ask("v1")).await?,
        answer => answer?,
    };
    Ok(leave)
}
