//! Knocking on a room through a server that is in it (Server-Server API §Knocking upon a room).

use rooms::{CheckedPdu, Membership, MembershipChange, RoomError};
use serde::Deserialize;
use serde_json::value::RawValue;
use spec::ids::ServerName;
use std::ops::ControlFlow;

use crate::Federation;
use crate::client::Ask;
use crate::remote::failure::{Attempts, Failure};
use crate::remote::handshake::{Step, ask_template, send_path, wire_object};
use crate::remote::room_state::check_room_state;
use crate::remote::{Deadline, Entry};

/// The answer holds some state events.
const MAX_ANSWER: usize = 2 * 1024 * 1024;

#[derive(Deserialize)]
struct KnockAnswer {
    #[serde(default)]
    knock_room_state: Vec<Box<RawValue>>,
}

/// Knocks on a room for a user of this server.
///
/// # Errors
/// What the servers that were asked say, or that none could be reached.
pub(crate) async fn knock_on_room(federation: Federation, entry: Entry) -> Result<(), RoomError> {
    let _turn = federation.remote.take_turn(&entry.room).await;
    if let Some(nid) = federation.rooms.room_nid(&entry.room)?
        && federation.rooms.is_resident(nid)?
    {
        let (sender, target, membership) = (entry.user.clone(), entry.user, Membership::Knock);
        let change = MembershipChange { sender, target, membership, content: entry.content };
        return federation.rooms.change_membership(&entry.room, change).await;
    }
    let deadline = Deadline::after(&federation.clock, federation.config.join_timeout.duration());
    let mut attempts = Attempts::default();
    for server in federation.entry_candidates(&entry.room, &entry.user, &entry.via)? {
        if deadline.is_over() {
            break;
        }
        let outcome = knock_through(&federation, &server, &entry, &deadline).await;
        if let ControlFlow::Break(end) = attempts.weigh(outcome) {
            return end;
        }
    }
    Err(attempts.into_error())
}

async fn knock_through(
    federation: &Federation,
    server: &ServerName,
    entry: &Entry,
    deadline: &Deadline,
) -> Result<(), Failure> {
    let template = ask_template(federation, Step::Knock, server, entry, deadline).await?;
    let version = template.version;
    let knock = template.complete(federation, Step::Knock, server, entry)?;
    let ask = Ask {
        timeout: deadline.left(federation.config.request_timeout.duration()),
        max_bytes: MAX_ANSWER,
        despite_backoff: true,
        ..Ask::put(send_path("v1", "send_knock", &knock), &wire_object(&knock)?)
    };
    let answer: KnockAnswer = federation.client.ask_json(server, ask).await?;
    let state = check_room_state(federation, server, &entry.room, version, answer.knock_room_state).await;
    federation.rooms.receive_knock(CheckedPdu::of_ours(knock), version, state).await?;
    Ok(())
}
