//! Client-Server API §"Send-to-Device messaging".

use axum::extract::State;
use serde::Deserialize;
use users::{ToDeviceMessages, TransactionScope, Users};

use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, LARGE_BODY, answer_empty};

#[derive(Deserialize)]
pub(crate) struct MessagesBody {
    messages: ToDeviceMessages,
}

/// `PUT /sendToDevice/{eventType}/{txnId}`. Messages to users of other servers reach nobody while this server does
/// not federate.
pub(crate) async fn send_to_device(
    user: User,
    Args((kind, transaction)): Args<(String, String)>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<MessagesBody, LARGE_BODY>,
) -> Answer {
    let scope = TransactionScope::Device(user.device);
    users.queue_to_device(&user.user_id, &kind, Some((scope, &transaction)), &body.messages).await?;
    answer_empty()
}
