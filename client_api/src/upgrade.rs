//! Client-Server API §"Room upgrades".

use axum::extract::State;
use rooms::Rooms;
use runtime::Tasks;
use serde::Deserialize;
use serde_json::{Value, json};
use spec::ids::{RoomId, UserId};
use spec::version::RoomVersion;
use users::{Right, SpamRule, Users};

use crate::error::{ApiError, unsupported_version};
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer};
use crate::members::full_state_for;
use crate::newcomers::Newcomers;
use crate::profile::member_content;
use crate::succession::take_rules_along;

#[derive(Deserialize)]
pub(crate) struct UpgradeBody {
    new_version: String,
    #[serde(default)]
    additional_creators: Vec<UserId>,
}

/// `POST /rooms/{roomId}/upgrade`.
pub(crate) async fn upgrade_room(
    user: User,
    Args(room): Args<RoomId>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    State(tasks): State<Tasks>,
    State(newcomers): State<Newcomers>,
    JsonBody(body): JsonBody<UpgradeBody>,
) -> Answer {
    user.check_may(Right::CreateRooms)?;
    let version: RoomVersion = body
        .new_version
        .parse()
        .map_err(|_| unsupported_version(format!("room version {} is not supported", body.new_version)))?;
    newcomers.check(&user, SpamRule::Rooms).await?;
    full_state_for(&user, &room, &rooms).await?;
    let profile = member_content(&rooms, &users, &user.user_id)?;
    let creators: Vec<Value> = body.additional_creators.iter().map(|user| user.as_str().into()).collect();
    let (caller, upgrading) = (user.user_id.clone(), rooms.clone());
    // A request that is dropped must not leave the old room without its tombstone.
    let (done, outcome) = tokio::sync::oneshot::channel();
    tasks.spawn("room upgrade", async move {
        // Nobody listens any more if the request was dropped.
        drop(done.send(upgrading.upgrade_room(&room, &caller, profile, version, creators).await));
    });
    let room = outcome.await.map_err(|_| ApiError::limit_exceeded(1000))??;
    take_rules_along(&user, &room, &rooms, &users).await;
    answer(&json!({"replacement_room": room}))
}
