//! Client-Server API §"Send-to-Device messaging".

use std::sync::Arc;

use axum::extract::State;
use serde::Deserialize;
use users::{RemoteUsers, ToDeviceMessages, Users};

use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, LARGE_BODY, answer_empty};

#[derive(Deserialize)]
pub(crate) struct MessagesBody {
    messages: ToDeviceMessages,
}

/// `PUT /sendToDevice/{eventType}/{txnId}`.
pub(crate) async fn send_to_device(
    user: User,
    Args((kind, transaction)): Args<(String, String)>,
    State(users): State<Users>,
    State(remote): State<Arc<dyn RemoteUsers>>,
    JsonBody(mut body): JsonBody<MessagesBody, LARGE_BODY>,
) -> Answer {
    if user.is_shadow_banned {
        body.messages.retain(|target, _| *target == user.user_id);
    }
    users.send_to_devices(&*remote, &user, &kind, &transaction, body.messages).await?;
    answer_empty()
}
