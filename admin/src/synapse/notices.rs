//! Server notices.

use axum::Extension;
use axum::extract::State;
use rooms::Transaction;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::UserId;
use users::ServerNotice;

use crate::admin::{Action, Admin};
use crate::http::{Answer, Args, CallerDevice, JsonBody, Refusal, SynapseCaller, answer};
use crate::notice::send_to;
use crate::operation::{Effect, Needs};

/// The longest transaction id, in bytes.
const MAX_TRANSACTION_ID: usize = 255;

#[derive(Deserialize)]
pub(super) struct NoticeBody {
    user_id: Option<UserId>,
    /// Instead of one user: several, who are answered with an event each.
    user_ids: Option<Vec<UserId>>,
    #[serde(rename = "type")]
    kind: Option<String>,
    state_key: Option<String>,
    content: Option<Map<String, Value>>,
}

/// `POST /_synapse/admin/v1/send_server_notice`.
pub(super) async fn send(
    State(admin): State<Admin>,
    caller: SynapseCaller,
    JsonBody(body): JsonBody<NoticeBody>,
) -> Answer {
    send_notices(&admin, &caller, body, None).await
}

/// `PUT /_synapse/admin/v1/send_server_notice/{txnId}`.
pub(super) async fn send_once(
    State(admin): State<Admin>,
    caller: SynapseCaller,
    Extension(CallerDevice(device)): Extension<CallerDevice>,
    Args(id): Args<String>,
    JsonBody(body): JsonBody<NoticeBody>,
) -> Answer {
    if id.len() > MAX_TRANSACTION_ID {
        return Err(Refusal::invalid_param("the transaction id is longer than 255 bytes"));
    }
    // The events are the server's own, so the id is remembered for it: its scope keeps administrators apart.
    let scope = format!("{} {device}", caller.0.who);
    let transaction = Transaction { device: "".into(), scope: scope.into(), id: id.into() };
    send_notices(&admin, &caller, body, Some(transaction)).await
}

async fn send_notices(
    admin: &Admin,
    SynapseCaller(caller): &SynapseCaller,
    body: NoticeBody,
    transaction: Option<Transaction>,
) -> Answer {
    let content = body.content.ok_or_else(|| Refusal::missing_param("content"))?;
    let kind = body.kind.unwrap_or_else(|| "m.room.message".to_owned());
    let (targets, is_one) = match (body.user_id, body.user_ids) {
        (Some(target), None) => (vec![target], true),
        (None, Some(targets)) => (targets, false),
        (Some(_), Some(_)) => return Err(Refusal::invalid_param("either user_id or user_ids")),
        (None, None) => return Err(Refusal::missing_param("user_id")),
    };
    let action = Action {
        name: "notice send".to_owned(),
        needs: Needs::Administrator,
        effect: Effect::Changes,
        arguments: json!({"users": targets, "type": kind, "text": content.get("body")}),
    };
    let notice = ServerNotice { kind: kind.into(), state_key: body.state_key.map(Into::into), content };
    let work = send_to(admin, targets, &notice, transaction);
    let mut sent = admin.audited(caller, action, work).await?;
    match sent.pop() {
        Some((_, event)) if is_one => answer(&json!({"event_id": event})),
        last => {
            let events = sent.into_iter().chain(last).map(|(user, event)| (user.to_string(), json!(event)));
            answer(&json!({"event_ids": events.collect::<Map<_, _>>()}))
        }
    }
}
