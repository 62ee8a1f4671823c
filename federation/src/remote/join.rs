//! Joining a room through a server that is in it (Server-Server API §Joining Rooms).

use std::ops::ControlFlow;
use std::sync::Arc;

use rooms::{CheckedPdu, RoomError};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use spec::ids::ServerName;
use spec::pdu::{Pdu, ReceivedPdu};
use spec::version::RoomVersion;

use crate::Federation;
use crate::client::{Ask, encode_query};
use crate::error::RemoteError;
use crate::remote::answer::{Kind, List, Rest, parse_body, read_answer};
use crate::remote::failure::{Attempts, Failure, is_unknown_endpoint};
use crate::remote::handshake::{Step, Template, ask_template, send_path, wire_object};
use crate::remote::restricted::join_resident;
use crate::remote::spool::Spool;
use crate::remote::take_in::Arrival;
use crate::remote::{Deadline, Entry};

/// Lets a user of this server into a room: through another server if this one has nobody there. A second join of the
/// same room waits for the first, and then is a join like any other.
///
/// # Errors
/// What the servers that were asked say, or that none could be reached; [`RoomError::RoomNotFound`] if nobody could be
/// asked.
pub(crate) async fn join_room(federation: Federation, entry: Entry) -> Result<(), RoomError> {
    let _turn = federation.remote.take_turn(&entry.room).await;
    if let Some(nid) = federation.rooms.room_nid(&entry.room)?
        && federation.rooms.is_resident(nid)?
    {
        return join_resident(&federation, nid, &entry).await;
    }
    let deadline = Deadline::after(&federation.clock, federation.config.join_timeout.duration());
    let mut attempts = Attempts::default();
    for server in federation.entry_candidates(&entry.room, &entry.user, &entry.via)? {
        if deadline.is_over() {
            break;
        }
        let outcome = join_through(&federation, &server, &entry, &deadline).await;
        if let ControlFlow::Break(end) = attempts.weigh(outcome) {
            return end;
        }
    }
    Err(attempts.into_error())
}

async fn join_through(
    federation: &Federation,
    server: &ServerName,
    entry: &Entry,
    deadline: &Deadline,
) -> Result<(), Failure> {
    let begun = federation.clock.monotonic();
    let template = make_join(federation, server, entry, deadline).await?;
    let version = template.version;
    let join = template.complete(federation, Step::Join, server, entry)?;
    // Where servers choose the ids of their events, those that came meanwhile have no order to be judged again in.
    let omit_members = federation.config.partial_joins && !version.rules().pair_references;
    let (rest, spool) = send_join(federation, server, version, &join, Keep::Lists { omit_members }, deadline).await?;
    if rest.members_omitted && !omit_members {
        return Err(Failure::malformed(server, "members were left out although they were asked for"));
    }
    let elapsed = federation.clock.monotonic().saturating_sub(begun);
    let events = spool.len();
    tracing::info!(room_id = entry.room.as_str(), destination = server.as_str(), events, ?elapsed, "joining a room");
    let join = choose_join(federation, server, version, join, rest.event.as_deref()).await?;
    let partial = rest.members_omitted.then(|| {
        let mut servers = rest.servers_in_room;
        // It is in the room, whether or not it says so.
        if !servers.contains(server) {
            servers.insert(0, server.clone());
        }
        servers
    });
    federation.take_in(Arrival { server, room: &entry.room, version, join, spool, partial }).await
}

/// A room that was entered before keeps its version; of another one it is only what some invitation said.
fn check_version(
    federation: &Federation,
    server: &ServerName,
    entry: &Entry,
    version: RoomVersion,
) -> Result<(), Failure> {
    let Some(nid) = federation.rooms.room_nid(&entry.room)? else { return Ok(()) };
    let head = federation.rooms.head(nid)?;
    if head.create().is_none() || head.version() == version {
        Ok(())
    } else {
        Err(Failure::malformed(server, "the room is known here with another version"))
    }
}

/// What of the answer to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// State and auth chain, with or without the members (MSC3706).
    Lists { omit_members: bool },
    /// Only the signed event: the room is known here.
    Event,
}

/// Sends a join and takes in the answer. Tries version 1 of the endpoint where version 2 is not known.
///
/// # Errors
/// What the server says, or what is wrong with its answer.
pub(crate) async fn send_join(
    federation: &Federation,
    server: &ServerName,
    version: RoomVersion,
    join: &Arc<Pdu>,
    keep: Keep,
    deadline: &Deadline,
) -> Result<(Rest, Spool), Failure> {
    let body = wire_object(join)?;
    // What is not kept need not come.
    let omit_members = if keep == (Keep::Lists { omit_members: false }) { "false" } else { "true" };
    let path = format!("{}{}", send_path("v2", "send_join", join), encode_query(&[("omit_members", omit_members)]));
    let answer = match ask_to_join(federation, server, path, &body, deadline).await {
        Err(error) if is_unknown_endpoint(&error) => {
            ask_to_join(federation, server, send_path("v1", "send_join", join), &body, deadline).await
        }
        answer => answer,
    };
    let body = answer?.into_body();
    let room = join.room_id.clone();
    let parsed = parse_body(server, body, move |pieces| {
        let mut spool = Spool::new(room, version.rules());
        let mut take = |list: List, event: &RawValue| match keep {
            Keep::Lists { .. } => spool.add(list, event),
            Keep::Event => Ok(()),
        };
        let rest = read_answer(Kind::Join, pieces, &mut take)?;
        Ok((rest, spool))
    });
    Ok(parsed.await?)
}

async fn ask_to_join(
    federation: &Federation,
    server: &ServerName,
    path: String,
    body: &Map<String, Value>,
    deadline: &Deadline,
) -> Result<http::Response<crate::transport::AnswerBody>, RemoteError> {
    let config = &federation.config;
    let ask = Ask {
        timeout: deadline.left(config.join_timeout.duration()),
        max_bytes: usize::try_from(config.max_join_response.bytes()).unwrap_or(usize::MAX),
        despite_backoff: true,
        ..Ask::put(path, body)
    };
    federation.client.ask_stream(server, ask).await
}

/// The join to store: as the resident server returned it, with its signature, or as we made it.
///
/// # Errors
/// A restricted join needs the signature of the server that lets the user in.
pub(crate) async fn choose_join(
    federation: &Federation,
    server: &ServerName,
    version: RoomVersion,
    ours: Arc<Pdu>,
    returned: Option<&RawValue>,
) -> Result<CheckedPdu, Failure> {
    let rules = version.rules();
    if let Some(returned) = returned {
        let object: Option<Map<String, Value>> = serde_json::from_str(returned.get()).ok();
        let received = object.and_then(|object| ReceivedPdu::check(object, rules).ok());
        let received = received.filter(|received| *received.event_id() == ours.event_id);
        if let Some(received) = received.filter(|received| is_same_event(received.unverified(), &ours)) {
            let checked = federation.keys.check_pdus_via(Some(server), rules, vec![received]).await;
            if let Some((_, Ok(checked))) = checked.into_iter().next() {
                return Ok(checked);
            }
        }
    }
    match spec::auth::join_authoriser(rules, &ours) {
        Ok(None) => Ok(CheckedPdu::of_ours(ours)),
        _ => Err(Failure::malformed(server, "the join lacks the signature of the server that lets the user in")),
    }
}

/// In room versions 1 and 2 the same id does not mean the same event.
fn is_same_event(returned: &Pdu, ours: &Pdu) -> bool {
    returned.content.get() == ours.content.get()
        && returned.sender == ours.sender
        && returned.state_key == ours.state_key
        && returned.prev_events == ours.prev_events
        && returned.auth_events == ours.auth_events
        && returned.depth == ours.depth
        && returned.origin_server_ts == ours.origin_server_ts
}

/// Asks for the template of a join, and whether it fits the room as it is known here.
///
/// # Errors
/// What the server says, or what is wrong with its template.
pub(crate) async fn make_join(
    federation: &Federation,
    server: &ServerName,
    entry: &Entry,
    deadline: &Deadline,
) -> Result<Template, Failure> {
    let template = ask_template(federation, Step::Join, server, entry, deadline).await?;
    check_version(federation, server, entry, template.version)?;
    Ok(template)
}
