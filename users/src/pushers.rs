//! Pushers: where a user's notifications are sent.
//!
//! Spec: Client-Server API §"Push Notifications". A pusher belongs to the device that set it and ends with it.

use std::sync::Arc;

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use storage::{Batch, Keyspace, Profile, Read};

use crate::{
    DeviceNid, Session, UserError, Users,
    devices::{DEVICE_OWNERS, expect_device},
    topics::{pushers_topic, user_topic},
};

/// Owner, `app_id`, `pushkey` → the pusher as JSON.
pub(crate) const PUSHERS: Keyspace<(UserNid, String, String), Vec<u8>> = Keyspace::new("pushers", Profile::Points);
/// `app_id`, `pushkey`, owner: to find other users' pushers for the same app and key.
pub(crate) const PUSHER_OWNERS: Keyspace<(String, String, UserNid), ()> =
    Keyspace::new("pusher_owners", Profile::Points);

const MAX_APP_ID_BYTES: usize = 64;
const MAX_PUSHKEY_BYTES: usize = 512;
const MAX_PUSHER_BYTES: usize = 16 * 1024;
/// How many pushers a user may have.
const MAX_PUSHERS: usize = 100;

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
    /// Whether it is switched on, for clients that know that it can be switched off (MSC3881); absent means on.
    #[serde(default, rename = "org.matrix.msc3881.enabled", skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

impl Pusher {
    /// Whether notifications are sent to it.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled.unwrap_or(true)
    }
}

/// A pusher that is set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct KeptPusher {
    /// As it was set.
    #[serde(flatten)]
    pub pusher: Pusher,
    /// The device that it belongs to.
    #[serde(rename = "org.matrix.msc3881.device_id")]
    pub device_id: Arc<str>,
    /// When it was last set, in milliseconds; 0 if that is not known.
    #[serde(skip)]
    pub set_at_ms: u64,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct StoredPusher {
    pub(crate) device: DeviceNid,
    pusher: Pusher,
    /// When, in milliseconds; older rows do not say.
    #[serde(default)]
    set_at_ms: u64,
}

impl Users {
    /// The pushers of a user.
    pub fn pushers(&self, user: UserNid) -> Result<Vec<KeptPusher>, UserError> {
        let rows = self.store().scan(&PUSHERS, &user);
        let pushers = rows.iter().map(|row| self.read_pusher(&row?.1));
        pushers.filter_map(Result::transpose).collect()
    }

    /// One pusher of a user.
    pub fn pusher(&self, user: UserNid, app_id: &str, pushkey: &str) -> Result<Option<KeptPusher>, UserError> {
        let row = self.store().get(&PUSHERS, &(user, app_id.to_owned(), pushkey.to_owned()))?;
        row.map_or(Ok(None), |json| self.read_pusher(&json))
    }

    /// The users who have pushers. Reads a key for each pusher.
    pub fn users_with_pushers(&self) -> Result<Vec<UserNid>, UserError> {
        let mut users = Vec::new();
        for key in self.store().scan(&PUSHERS, &()).keys() {
            let (user, _, _) = key?;
            if users.last() != Some(&user) {
                users.push(user);
            }
        }
        Ok(users)
    }

    /// `None` if its device is gone: it was deleted after the row was read.
    fn read_pusher(&self, json: &[u8]) -> Result<Option<KeptPusher>, UserError> {
        let StoredPusher { device, mut pusher, set_at_ms } = parse_pusher(json)?;
        let Some(owner) = self.store().get(&DEVICE_OWNERS, &device)? else { return Ok(None) };
        pusher.enabled.get_or_insert(true);
        Ok(Some(KeptPusher { pusher, device_id: owner.device_id, set_at_ms }))
    }

    /// Creates or replaces a pusher. Without `append`, other users lose theirs for the same app and key. One that says
    /// whether it is enabled stays with the device that it has: it is switched from another one (MSC3881). Cancel-safe.
    ///
    /// # Errors
    /// `InvalidParam`, `MissingParam`, `TooLarge`; `UnknownToken` when the device is deleted meanwhile.
    pub async fn set_pusher(&self, session: &Session, pusher: Pusher, append: bool) -> Result<(), UserError> {
        check_pusher(&pusher)?;
        let (app_id, pushkey) = (pusher.app_id.clone(), pusher.pushkey.clone());
        let key = (session.user, app_id.clone(), pushkey.clone());
        let mut stored = StoredPusher { device: session.device, pusher, set_at_ms: self.now_ms() };
        loop {
            let old = self.store().get(&PUSHERS, &key)?;
            let _counting = match old {
                None => Some(self.inner.pusher_added.lock().await),
                Some(_) => None,
            };
            if old.is_none() && self.store().scan(&PUSHERS, &session.user).keys().count() >= MAX_PUSHERS {
                return Err(UserError::TooLarge("the number of pushers"));
            }
            stored.device = session.device;
            if let Some(old) = old.as_deref().filter(|_| stored.pusher.enabled.is_some()) {
                stored.device = parse_pusher(old)?.device;
            }
            let live = self.live_device(stored.device)?;
            let (device_key, device) = live.ok_or(UserError::UnknownToken { soft_logout: false })?;
            let json =
                serde_json::to_vec(&stored).map_err(|_| UserError::Inconsistent("a pusher does not serialise"))?;
            if json.len() > MAX_PUSHER_BYTES {
                return Err(UserError::TooLarge("the pusher"));
            }
            let mut batch = Batch::new();
            expect_device(&mut batch, &device_key, &device);
            if let Some(old) = &old {
                batch.expect_equals(&PUSHERS, &key, old);
            }
            if !append {
                for row in self.store().scan(&PUSHER_OWNERS, &(app_id.clone(), pushkey.clone())).iter() {
                    let ((_, _, owner), ()) = row?;
                    delete_row(&mut batch, owner, &app_id, &pushkey);
                }
            }
            batch.put(&PUSHERS, &key, &json);
            batch.put(&PUSHER_OWNERS, &(app_id.clone(), pushkey.clone(), session.user), &());
            batch.touch(user_topic(session.user)).touch(pushers_topic(session.user));
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
    batch.touch(pushers_topic(user));
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
            let (host, path) = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).unwrap_or_default();
            if !url.starts_with("https://") && !url.starts_with("http://") {
                return Err(UserError::InvalidParam("data.url is an HTTP or HTTPS URL"));
            }
            if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte)) {
                return Err(UserError::InvalidParam("data.url names a host, and nothing else before its path"));
            }
            if path != "_matrix/push/v1/notify" {
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
