//! The first half of joining, knocking and leaving through another server: its template becomes an event of ours
//! (Server-Server API §Joining Rooms, §Knocking upon a room, §Leaving Rooms).

use std::sync::Arc;

use rooms::RoomError;
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::ids::{RoomId, ServerName, UserId};
use spec::pdu::{Pdu, PduError};
use spec::version::RoomVersion;

use crate::Federation;
use crate::client::{Ask, encode_path, encode_query};
use crate::error::RemoteError;
use crate::remote::failure::Failure;
use crate::remote::{Deadline, Entry};

/// Which handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Join,
    Knock,
    Leave,
}

impl Step {
    /// The membership that the event sets.
    pub(crate) fn membership(self) -> &'static str {
        match self {
            Step::Join => "join",
            Step::Knock => "knock",
            Step::Leave => "leave",
        }
    }

    fn make_endpoint(self) -> &'static str {
        match self {
            Step::Join => "make_join",
            Step::Knock => "make_knock",
            Step::Leave => "make_leave",
        }
    }

    /// The room versions to offer; a leave is made for whatever version the room has.
    fn versions(self) -> impl Iterator<Item = RoomVersion> {
        RoomVersion::ALL.into_iter().chain(RoomVersion::UNSTABLE).filter(move |version| match self {
            Step::Join => true,
            Step::Knock => version.rules().knocking,
            Step::Leave => false,
        })
    }
}

/// An event that another server proposes, checked against what was asked for.
#[derive(Debug)]
pub(crate) struct Template {
    /// The room's version.
    pub version: RoomVersion,
    event: Map<String, Value>,
}

#[derive(Deserialize)]
pub(crate) struct TemplateAnswer {
    room_version: Option<String>,
    event: Map<String, Value>,
}

/// Templates are small.
const MAX_TEMPLATE: usize = 256 * 1024;

/// Asks a server for a template. Cancel-safe.
///
/// # Errors
/// What the server says, or that its template is not for what was asked.
pub(crate) async fn ask_template(
    federation: &Federation,
    step: Step,
    server: &ServerName,
    entry: &Entry,
    deadline: &Deadline,
) -> Result<Template, RemoteError> {
    let mut path =
        encode_path(&["_matrix", "federation", "v1", step.make_endpoint(), entry.room.as_str(), entry.user.as_str()]);
    let versions: Vec<(&str, &str)> = step.versions().map(|version| ("ver", version.as_str())).collect();
    if !versions.is_empty() {
        path.push_str(&encode_query(&versions));
    }
    let timeout = deadline.left(federation.config.request_timeout.duration());
    let ask = Ask { timeout, max_bytes: MAX_TEMPLATE, despite_backoff: true, ..Ask::get(path) };
    let answer: TemplateAnswer = federation.client.ask_json(server, ask).await?;
    check_template(step, &entry.room, &entry.user, answer)
        .map_err(|reason| RemoteError::Malformed { server: server.clone(), reason: reason.to_owned() })
}

/// Checks what the specification demands of a template before it is signed.
pub(crate) fn check_template(
    step: Step,
    room: &RoomId,
    user: &UserId,
    answer: TemplateAnswer,
) -> Result<Template, &'static str> {
    let TemplateAnswer { room_version, event } = answer;
    let version = match room_version {
        Some(version) => version.parse().map_err(|_| "the room has a version that was not offered")?,
        None => RoomVersion::V1,
    };
    if step != Step::Leave && !step.versions().any(|offered| offered == version) {
        return Err("the room has a version that was not offered");
    }
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    if text("type") != Some("m.room.member") {
        return Err("the template is not of a member event");
    }
    if text("room_id") != Some(room.as_str()) {
        return Err("the template is for another room");
    }
    if text("sender") != Some(user.as_str()) || text("state_key") != Some(user.as_str()) {
        return Err("the template is for another user");
    }
    let membership = event.get("content").and_then(|content| content.get("membership"));
    if membership.and_then(Value::as_str) != Some(step.membership()) {
        return Err("the template sets another membership");
    }
    Ok(Template { version, event })
}

impl Template {
    /// The user of the resident server who lets the sender into a restricted room.
    pub(crate) fn authoriser(&self) -> Option<&str> {
        self.event.get("content")?.get("join_authorised_via_users_server")?.as_str()
    }

    /// Makes an event of the template: its place in the room is the other server's, all else is ours. Signed.
    ///
    /// # Errors
    /// The other server's fault if the place it gives makes no event; ours if the content is too large.
    pub(crate) fn complete(
        mut self,
        federation: &Federation,
        step: Step,
        server: &ServerName,
        entry: &Entry,
    ) -> Result<Arc<Pdu>, Failure> {
        let rules = self.version.rules();
        let mut content = entry.content.clone();
        content.remove("join_authorised_via_users_server");
        if let Some(authoriser) = self.authoriser().filter(|_| step == Step::Join && rules.restricted_join) {
            content.insert("join_authorised_via_users_server".into(), authoriser.into());
        }
        content.insert("membership".into(), step.membership().into());
        let mut event = Map::new();
        for key in ["auth_events", "prev_events", "depth"] {
            if let Some(value) = self.event.remove(key) {
                event.insert(key.into(), value);
            }
        }
        event.insert("content".into(), Value::Object(content));
        event.insert("origin_server_ts".into(), federation.clock.now_ms().into());
        event.insert("room_id".into(), entry.room.as_str().into());
        event.insert("sender".into(), entry.user.as_str().into());
        event.insert("state_key".into(), entry.user.as_str().into());
        event.insert("type".into(), "m.room.member".into());
        if rules.pair_references {
            let id = format!("${}:{}", federation.random.token(24), federation.server_name.as_str());
            event.insert("event_id".into(), id.into());
            event.insert("origin".into(), federation.server_name.as_str().into());
        }
        match Pdu::sign(event, &federation.server_name, &federation.signing_key, rules) {
            Ok(pdu) => Ok(Arc::new(pdu)),
            Err(error @ (PduError::TooLarge | PduError::FieldTooLong(_))) => {
                Err(Failure::Local(RoomError::BadEvent(error)))
            }
            Err(error) => Err(Failure::malformed(server, format!("the template makes no event: {error}"))),
        }
    }
}

/// The path of the second half.
pub(crate) fn send_path(version: &str, endpoint: &str, pdu: &Pdu) -> String {
    encode_path(&["_matrix", "federation", version, endpoint, pdu.room_id.as_str(), pdu.event_id.as_str()])
}

/// The event as it is sent: without what only this server knows of it.
pub(crate) fn wire_object(pdu: &Pdu) -> Result<Map<String, Value>, RoomError> {
    pdu.to_object().map_err(|_| RoomError::Inconsistent("an event of ours does not parse"))
}

#[cfg(test)]
mod tests;
