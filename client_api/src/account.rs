//! One's own account (Client-Server API §"Account registration and management").

use axum::extract::State;
use rooms::{Membership, MembershipChange, RoomNid, Rooms};
use runtime::Tasks;
use serde::Deserialize;
use serde_json::{Map, json};
use spec::ids::UserId;
use users::{AuthData, UiaPurpose, Users};

use crate::error::ApiError;
use crate::extract::User;
use crate::json::{Answer, JsonBody, answer, answer_empty};
use crate::login::AuthBody;
use crate::uia::confirm;

/// `GET /account/whoami`.
pub(crate) async fn get_whoami(user: User) -> Answer {
    let mut body = json!({"user_id": user.user_id, "is_guest": user.is_guest});
    if user.has_device() {
        body["device_id"] = (&*user.device_id).into();
    }
    answer(&body)
}

/// `GET /account/3pid`: this server associates none.
pub(crate) async fn get_threepids(_: User) -> Answer {
    answer(&json!({"threepids": []}))
}

#[derive(Deserialize)]
pub(crate) struct PasswordBody {
    auth: Option<AuthData>,
    new_password: Option<String>,
    #[serde(default = "yes")]
    logout_devices: bool,
}

fn yes() -> bool {
    true
}

/// `POST /account/password`.
pub(crate) async fn change_password(
    user: User,
    State(users): State<Users>,
    JsonBody(body): JsonBody<PasswordBody>,
) -> Answer {
    if let Some(password) = &body.new_password {
        users.check_password_strength(password)?;
    }
    confirm(&users, UiaPurpose::Account(user.user, "account/password"), body.auth.as_ref()).await?;
    let password = body.new_password.as_deref().ok_or_else(|| ApiError::missing_param("new_password"))?;
    users.set_password(user.user, password).await?;
    if body.logout_devices {
        users.delete_all_devices(user.user, Some(&user.device_id)).await?;
    }
    answer_empty()
}

/// `POST /account/deactivate`. The rooms are left after the answer.
pub(crate) async fn deactivate(
    user: User,
    State(users): State<Users>,
    State(rooms): State<Rooms>,
    State(tasks): State<Tasks>,
    JsonBody(body): JsonBody<AuthBody>,
) -> Answer {
    confirm(&users, UiaPurpose::Account(user.user, "account/deactivate"), body.auth.as_ref()).await?;
    let (user, user_id) = (user.user, user.user_id.clone());
    // A request that is dropped must not leave the account half closed.
    let closing = tasks.clone();
    let (done, outcome) = tokio::sync::oneshot::channel();
    tasks.spawn("account deactivation", async move {
        let invites = rooms.user_rooms(user).map(|rooms| invited_rooms(&rooms)).unwrap_or_default();
        let outcome = users.deactivate(user).await;
        if let Ok(joined) = &outcome {
            let left = joined.iter().copied().chain(invites).collect();
            if let Err(error) = rooms.cancel_all_delayed(user).await {
                tracing::warn!(%error, "what a deactivated user had scheduled was not cancelled");
            }
            closing.spawn("leaving rooms", leave_rooms(rooms, user_id, left));
        }
        // Nobody listens any more if the request was dropped.
        drop(done.send(outcome.map(drop)));
    });
    outcome.await.map_err(|_| ApiError::limit_exceeded(1000))??;
    answer(&json!({"id_server_unbind_result": "no-support"}))
}

fn invited_rooms(rooms: &std::collections::BTreeMap<RoomNid, rooms::UserRoom>) -> Vec<RoomNid> {
    let open = |membership| matches!(membership, Membership::Invite | Membership::Knock);
    rooms.iter().filter(|(_, row)| open(row.membership)).map(|(room, _)| *room).collect()
}

async fn leave_rooms(rooms: Rooms, user: UserId, left: Vec<RoomNid>) {
    for room in left {
        let Ok(room_id) = rooms.room_id(room) else { continue };
        let change = MembershipChange {
            sender: user.clone(),
            target: user.clone(),
            membership: Membership::Leave,
            content: Map::new(),
        };
        if let Err(error) = rooms.change_membership(&room_id, change).await {
            tracing::warn!(room_id = room_id.as_str(), %error, "a deactivated user could not leave a room");
        }
    }
}
