//! Lists of media.

use ::media::{MediaOrder, MediaPage};
use axum::extract::State;
use serde_json::json;
use spec::ids::{RoomId, UserId};

use super::{describe, find_local_user};
use crate::admin::Admin;
use crate::error::AdminError;
use crate::http::{Answer, Args, Query, Refusal, SynapseCaller, answer};
use crate::synapse::{is_backwards, reading};

/// What part of a user's media is meant.
pub(super) struct Part {
    order: MediaOrder,
    descending: bool,
    pub from: usize,
    limit: usize,
}

impl Part {
    /// Without an order or a direction, the newest come first.
    pub fn read(query: &Query) -> Result<Part, Refusal> {
        let order = match query.text("order_by")?.as_deref() {
            None | Some("created_ts") => MediaOrder::Created,
            Some("media_id") => MediaOrder::MediaId,
            Some("upload_name") => MediaOrder::FileName,
            Some("last_access_ts") => MediaOrder::LastAccess,
            Some("media_length") => MediaOrder::Length,
            Some("media_type") => MediaOrder::ContentType,
            Some("quarantined_by") => MediaOrder::QuarantinedBy,
            Some("safe_from_quarantine") => MediaOrder::Protected,
            Some(_) => return Err(Refusal::invalid_param("media cannot be ordered by this")),
        };
        let is_silent = query.text("order_by")?.is_none() && query.text("dir")?.is_none();
        Ok(Part {
            order,
            descending: is_silent || is_backwards(query, false)?,
            from: query.parsed("from")?.unwrap_or(0),
            limit: query.limit(100)?,
        })
    }

    pub fn find(&self, admin: &Admin, user: &UserId) -> Result<MediaPage, AdminError> {
        Ok(admin.media().user_media(user.as_str(), self.order, self.descending, self.from, self.limit)?)
    }
}

/// `GET /_synapse/admin/v1/users/{user_id}/media`.
pub(crate) async fn list_of_user(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    query: Query,
) -> Answer {
    let user = find_local_user(&admin, &user)?;
    let part = Part::read(&query)?;
    let action = reading("media list", json!({"user": user.as_str()}));
    let page = admin.audited(&caller, action, async { part.find(&admin, &user) }).await?;
    let mut found = json!({"media": page.items.iter().map(describe).collect::<Vec<_>>(), "total": page.total});
    let next = part.from.saturating_add(page.items.len());
    if !page.items.is_empty() && u64::try_from(next).is_ok_and(|next| next < page.total) {
        found["next_token"] = next.into();
    }
    answer(&found)
}

/// `GET /_synapse/admin/v1/room/{room_id}/media`.
pub(crate) async fn list_of_room(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
) -> Answer {
    let room_id = RoomId::parse(&room).map_err(|_| Refusal::invalid_param("this is not a room id"))?;
    let work = async {
        let room = admin.rooms().known_room(&room_id)?;
        crate::media::all_media(admin.rooms(), room).await
    };
    let found = admin.audited(&caller, reading("media list", json!({"room": room})), work).await?;
    let (local, remote): (Vec<_>, Vec<_>) = found.iter().partition(|mxc| admin.media().is_local(mxc));
    let name = |media: Vec<&::media::Mxc>| media.iter().map(ToString::to_string).collect::<Vec<_>>();
    answer(&json!({"local": name(local), "remote": name(remote)}))
}
