//! Messages of the server to its users (Client-Server API §"Server Notices"), by the request that administration tools
//! send.

use axum::extract::State;
use rooms::Transaction;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::UserId;
use users::{ServerNotice, Users};

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer};
use crate::send::{EVENT_BODY, answer_event_id, new_transaction};

/// Users that can be told at once.
const MAX_TARGETS: usize = 100;

#[derive(Deserialize)]
pub(crate) struct NoticeBody {
    user_id: Option<UserId>,
    /// Instead of one user: several, who are answered with an event each.
    user_ids: Option<Vec<UserId>>,
    #[serde(rename = "type")]
    kind: Option<String>,
    state_key: Option<String>,
    content: Option<Map<String, Value>>,
}

/// `POST /_synapse/admin/v1/send_server_notice`.
pub(crate) async fn send(
    _: User,
    State(users): State<Users>,
    JsonBody(body): JsonBody<NoticeBody, EVENT_BODY>,
) -> Answer {
    send_notices(&users, body, None).await
}

/// `PUT /_synapse/admin/v1/send_server_notice/{txnId}`.
pub(crate) async fn send_once(
    user: User,
    Args(id): Args<String>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<NoticeBody, EVENT_BODY>,
) -> Answer {
    // The events are the server's own, so the id is remembered for it: its scope keeps administrators apart.
    let transaction = new_transaction(&user, format!("{} {}", user.user_id, user.device_id), id)?;
    send_notices(&users, body, Some(Transaction { device: "".into(), ..transaction })).await
}

async fn send_notices(users: &Users, body: NoticeBody, transaction: Option<Transaction>) -> Answer {
    let content = body.content.ok_or_else(|| ApiError::missing_param("content"))?;
    let kind = body.kind.unwrap_or_else(|| "m.room.message".to_owned()).into();
    let notice = ServerNotice { kind, state_key: body.state_key.map(Into::into), content };
    let targets = match (body.user_id, body.user_ids) {
        (Some(target), None) => {
            let event = users.send_server_notice(&target, notice, transaction).await?;
            return answer_event_id(event.as_str());
        }
        (None, Some(targets)) => targets,
        (Some(_), Some(_)) => return Err(ApiError::invalid_param("either user_id or user_ids")),
        (None, None) => return Err(ApiError::missing_param("user_id")),
    };
    if targets.is_empty() || targets.len() > MAX_TARGETS {
        return Err(ApiError::invalid_param(format!("user_ids holds 1 to {MAX_TARGETS} users")));
    }
    // Nobody is told while it is known that somebody cannot be.
    targets.iter().try_for_each(|target| users.notice_target(target).map(drop)).map_err(ApiError::from)?;
    let mut events = Map::new();
    for target in targets {
        let event = users.send_server_notice(&target, notice.clone(), transaction.clone()).await?;
        events.insert(target.to_string(), event.as_str().into());
    }
    answer(&json!({"event_ids": events}))
}
