//! Pushers: where a user's notifications are sent.
//!
//! Spec: Client-Server API §"Push Notifications". A pusher belongs to the device that set it and ends with it.

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use storage::{Batch, Keyspace, Profile, Read};

use crate::{DeviceNid, Session, UserError, Users, devices::expect_device, topics::user_topic};

/// Owner, `app_id`, `pushkey` → the pusher as JSON.
pub(crate) const PUSHERS: Keyspace<(UserNid, String, String), Vec<u8>> = Keyspace::new("pushers", Profile::Points);
/// `app_id`, `pushkey`, owner: to find other users' pushers for the same app and key.
pub(crate) const PUSHER_OWNERS: Keyspace<(String, String, UserNid), ()> =
    Keyspace::new("pusher_owners", Profile::Points);

const MAX_APP_ID_BYTES: usize = 64;
const MAX_PUSHKEY_BYTES: usize = 512;
const MAX_PUSHER_BYTES: usize = 16 * 1024;

/// A pusher as a client sets and sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pusher {
    /// Identifies the app.
    pub app_id: String,
    /// Identifies the pusher within the app.
    pub pushkey: String,
    /// `http` or `email`.
    pub kind: String,
    /// Name of the app for the user.
    #[serde(default)]
    pub app_display_name: String,
    /// Name of the device for the user.
    #[serde(default)]
    pub device_display_name: String,
    /// Which rules apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile_tag: Option<String>,
    /// Language of notifications.
    #[serde(default)]
    pub lang: String,
    /// For the gateway: `url`, `format` and free fields.
    #[serde(default)]
    pub data: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StoredPusher {
    pub(crate) device: DeviceNid,
    pusher: Pusher,
}

impl Users {
    /// The pushers of a user.
    pub fn pushers(&self, user: UserNid) -> Result<Vec<Pusher>, UserError> {
        self.store().scan(&PUSHERS, &user).iter().map(|row| Ok(parse_pusher(&row?.1)?.pusher)).collect()
    }

    /// Creates or replaces a pusher. Without `append`, other users lose theirs for the same app and key. Cancel-safe.
    ///
    /// # Errors
    /// `InvalidParam`, `MissingParam`, `TooLarge`; `UnknownToken` when the device is deleted meanwhile.
    pub async fn set_pusher(&self, session: &Session, pusher: Pusher, append: bool) -> Result<(), UserError> {
        check_pusher(&pusher)?;
        let (app_id, pushkey) = (pusher.app_id.clone(), pusher.pushkey.clone());
        let json = serde_json::to_vec(&StoredPusher { device: session.device, pusher })
            .map_err(|_| UserError::Inconsistent("a pusher does not serialise"))?;
        if json.len() > MAX_PUSHER_BYTES {
            return Err(UserError::TooLarge("the pusher"));
        }
        loop {
            let live = self.live_device(session.device)?;
            let (device_key, device) = live.ok_or(UserError::UnknownToken { soft_logout: false })?;
            let mut batch = Batch::new();
            expect_device(&mut batch, &device_key, &device);
            if !append {
                for row in self.store().scan(&PUSHER_OWNERS, &(app_id.clone(), pushkey.clone())).iter() {
                    let ((_, _, owner), ()) = row?;
                    delete_row(&mut batch, owner, &app_id, &pushkey);
                }
            }
            batch.put(&PUSHERS, &(session.user, app_id.clone(), pushkey.clone()), &json);
            batch.put(&PUSHER_OWNERS, &(app_id.clone(), pushkey.clone(), session.user), &());
            batch.touch(user_topic(session.user));
            if self.try_commit(batch).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Deletes a pusher, if it is there. Cancel-safe.
    pub async fn delete_pusher(&self, user: UserNid, app_id: &str, pushkey: &str) -> Result<(), UserError> {
        let mut batch = Batch::new();
        delete_row(&mut batch, user, app_id, pushkey);
        batch.touch(user_topic(user));
        self.store().commit(batch).await?;
        Ok(())
    }

    pub(crate) fn delete_device_pushers(
        &self,
        batch: &mut Batch,
        user: UserNid,
        device: DeviceNid,
    ) -> Result<(), UserError> {
        for row in self.store().scan(&PUSHERS, &user).iter() {
            let ((_, app_id, pushkey), json) = row?;
            if parse_pusher(&json)?.device == device {
                delete_row(batch, user, &app_id, &pushkey);
            }
        }
        Ok(())
    }

    pub(crate) async fn delete_all_pushers(&self, user: UserNid) -> Result<(), UserError> {
        let mut batch = Batch::new();
        for row in self.store().scan(&PUSHERS, &user).iter() {
            let ((_, app_id, pushkey), _) = row?;
            delete_row(&mut batch, user, &app_id, &pushkey);
        }
        batch.touch(user_topic(user));
        self.store().commit(batch).await?;
        Ok(())
    }
}

fn delete_row(batch: &mut Batch, user: UserNid, app_id: &str, pushkey: &str) {
    batch.delete(&PUSHERS, &(user, app_id.to_owned(), pushkey.to_owned()));
    batch.delete(&PUSHER_OWNERS, &(app_id.to_owned(), pushkey.to_owned(), user));
}

pub(crate) fn parse_pusher(json: &[u8]) -> Result<StoredPusher, UserError> {
    serde_json::from_slice(json).map_err(|_| UserError::Inconsistent("a stored pusher is not readable"))
}

fn check_pusher(pusher: &Pusher) -> Result<(), UserError> {
    if pusher.app_id.is_empty() || pusher.app_id.len() > MAX_APP_ID_BYTES {
        return Err(UserError::InvalidParam("an app_id has 1 to 64 bytes"));
    }
    if pusher.pushkey.is_empty() || pusher.pushkey.len() > MAX_PUSHKEY_BYTES {
        return Err(UserError::InvalidParam("a pushkey has 1 to 512 bytes"));
    }
    match pusher.kind.as_str() {
        "http" => {
            let url = pusher.data.get("url").and_then(Value::as_str).ok_or(UserError::MissingParam("data.url"))?;
            // The path is prescribed so that a pusher cannot be pointed at any other service.
            let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
            if !url.starts_with("https://") && !url.starts_with("http://") {
                return Err(UserError::InvalidParam("data.url is an HTTP or HTTPS URL"));
            }
            if path != Some("_matrix/push/v1/notify") {
                return Err(UserError::InvalidParam("the path of data.url is /_matrix/push/v1/notify"));
            }
            Ok(())
        }
        "email" => Err(UserError::InvalidParam("this server does not send e-mail notifications")),
        _ => Err(UserError::InvalidParam("the kind of a pusher is http")),
    }
}

#[cfg(test)]
mod tests;
