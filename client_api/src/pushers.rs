//! Client-Server API §"Push Notifications": pushers.

use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use users::{Pusher, Users};

use crate::error::ApiError;
use crate::extract::User;
use crate::json::{Answer, JsonBody, answer, answer_empty};

/// `GET /pushers`.
pub(crate) async fn get_pushers(user: User, State(users): State<Users>) -> Answer {
    answer(&json!({"pushers": users.pushers(user.user)?}))
}

#[derive(Deserialize)]
pub(crate) struct PusherBody {
    app_id: String,
    pushkey: String,
    /// `null` deletes the pusher.
    kind: Option<String>,
    app_display_name: Option<String>,
    device_display_name: Option<String>,
    profile_tag: Option<String>,
    lang: Option<String>,
    data: Option<Map<String, Value>>,
    #[serde(default)]
    append: bool,
    #[serde(rename = "org.matrix.msc3881.enabled")]
    enabled: Option<bool>,
}

/// `POST /pushers/set`.
pub(crate) async fn set_pusher(user: User, State(users): State<Users>, JsonBody(body): JsonBody<PusherBody>) -> Answer {
    let Some(kind) = body.kind.filter(|kind| !kind.is_empty()) else {
        if users.pusher(user.user, &body.app_id, &body.pushkey)?.is_some() {
            users.delete_pusher(user.user, &body.app_id, &body.pushkey).await?;
        }
        return answer_empty();
    };
    let pusher = Pusher {
        app_id: body.app_id,
        pushkey: body.pushkey,
        kind,
        app_display_name: body.app_display_name.ok_or_else(|| ApiError::missing_param("app_display_name"))?,
        device_display_name: body.device_display_name.ok_or_else(|| ApiError::missing_param("device_display_name"))?,
        profile_tag: body.profile_tag,
        lang: body.lang.ok_or_else(|| ApiError::missing_param("lang"))?,
        data: body.data.ok_or_else(|| ApiError::missing_param("data"))?,
        enabled: body.enabled,
    };
    users.set_pusher(&user, pusher, body.append).await?;
    answer_empty()
}
