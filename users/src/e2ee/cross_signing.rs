//! Cross-signing keys: master, self-signing, user-signing.
//!
//! Spec: Client-Server API §"Cross-signing"; whether authentication is needed: MSC3967, now part of
//! `POST /keys/device_signing/upload`.

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use spec::{
    ids::UserId,
    signing::{VerifyKey, verify_json},
};
use storage::{Batch, Keyspace, Profile, Read};

use super::{Object, is_same_key, parse_object, render_object, signatures::Signatures};
use crate::{
    UserError, Users,
    device_lists::{DeviceListChangeKind, log_device_list_change, log_private_signature},
    devices::DEVICES,
};

/// Owner and usage → the key object. For remote users: what their server told us last.
pub(crate) const CROSS_SIGNING: Keyspace<(UserNid, u8), Vec<u8>> = Keyspace::new("cross_signing", Profile::Points);

const MAX_KEY_BYTES: usize = 64 * 1024;

/// What a cross-signing key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyUsage {
    /// Signs the other two.
    Master,
    /// Signs the user's devices.
    SelfSigning,
    /// Signs other users' master keys; only its owner sees it.
    UserSigning,
}

impl KeyUsage {
    const ALL: [Self; 3] = [Self::Master, Self::SelfSigning, Self::UserSigning];

    pub(crate) fn index(self) -> u8 {
        match self {
            Self::Master => 0,
            Self::SelfSigning => 1,
            Self::UserSigning => 2,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::SelfSigning => "self_signing",
            Self::UserSigning => "user_signing",
        }
    }
}

/// Body of `/keys/device_signing/upload`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct CrossSigningUpload {
    /// New master key.
    #[serde(default)]
    pub master_key: Option<Object>,
    /// New self-signing key.
    #[serde(default)]
    pub self_signing_key: Option<Object>,
    /// New user-signing key.
    #[serde(default)]
    pub user_signing_key: Option<Object>,
}

impl CrossSigningUpload {
    fn key(&self, usage: KeyUsage) -> Option<&Object> {
        match usage {
            KeyUsage::Master => self.master_key.as_ref(),
            KeyUsage::SelfSigning => self.self_signing_key.as_ref(),
            KeyUsage::UserSigning => self.user_signing_key.as_ref(),
        }
    }
}

/// The public part of a cross-signing key: its only `keys` entry, `ed25519:<base64>` → `<base64>`.
pub(crate) fn public_part(key: &Object) -> Option<&str> {
    let keys = key.get("keys")?.as_object()?;
    let (name, public) = keys.iter().next().filter(|_| keys.len() == 1)?;
    let public = public.as_str()?;
    (name.strip_prefix("ed25519:")? == public).then_some(public)
}

impl Users {
    pub(crate) fn cross_signing_key(&self, user: UserNid, usage: KeyUsage) -> Result<Option<Object>, UserError> {
        self.store().get(&CROSS_SIGNING, &(user, usage.index()))?.map(|json| parse_object(&json)).transpose()
    }

    pub(super) fn visible_cross_signing_key(
        &self,
        user: UserNid,
        usage: KeyUsage,
        signatures: &Signatures,
    ) -> Result<Option<Value>, UserError> {
        let Some(mut key) = self.cross_signing_key(user, usage)? else { return Ok(None) };
        if let Some(public) = public_part(&key).map(str::to_owned) {
            signatures.merge_into(&mut key, &public);
        }
        Ok(Some(Value::Object(key)))
    }

    pub(crate) fn is_cross_signing_key(&self, user: UserNid, public: &str) -> Result<bool, UserError> {
        for row in self.store().scan(&CROSS_SIGNING, &user).iter() {
            if public_part(&parse_object(&row?.1)?) == Some(public) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a user has a master key.
    pub fn has_cross_signing(&self, user: UserNid) -> Result<bool, UserError> {
        Ok(self.store().contains(&CROSS_SIGNING, &(user, KeyUsage::Master.index()))?)
    }

    /// Whether an upload must be confirmed by user-interactive authentication: not the first one, not one that changes
    /// nothing (MSC3967), and not while an administrator allows the keys to be replaced.
    pub fn needs_auth_for_cross_signing(&self, user: UserNid, upload: &CrossSigningUpload) -> Result<bool, UserError> {
        if !self.has_cross_signing(user)? {
            return Ok(false);
        }
        if self.facts(user)?.cross_signing_until_ms.is_some_and(|until| self.now_ms() < until) {
            return Ok(false);
        }
        for usage in KeyUsage::ALL {
            if let Some(new) = upload.key(usage)
                && !self.cross_signing_key(user, usage)?.is_some_and(|old| is_same_key(&old, new))
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Stores cross-signing keys. A new master key takes away keys that it did not sign. Cancel-safe.
    ///
    /// # Errors
    /// `BadJson`, `InvalidParam`, `MissingParam` without any master key, `InvalidSignature`, `Forbidden` when a key
    /// equals a device ID.
    pub async fn upload_cross_signing(&self, user: UserNid, upload: &CrossSigningUpload) -> Result<(), UserError> {
        let user_id = self.rooms().user_id(user)?;
        loop {
            let old_master = self.store().get(&CROSS_SIGNING, &(user, KeyUsage::Master.index()))?;
            let mut batch = Batch::new();
            match &old_master {
                Some(old) => batch.expect_equals(&CROSS_SIGNING, &(user, KeyUsage::Master.index()), old),
                None => batch.expect_absent(&CROSS_SIGNING, &(user, KeyUsage::Master.index())),
            };
            let old_master = old_master.map(|json| parse_object(&json)).transpose()?;
            let change = self.plan_cross_signing(&mut batch, user, &user_id, upload, old_master)?;
            if !change.is_any() {
                return Ok(());
            }
            if change.public {
                log_device_list_change(&mut batch, user, None, DeviceListChangeKind::CrossSigning);
            } else {
                log_private_signature(&mut batch, user, user);
            }
            if self.try_commit(batch).await?.is_some() {
                return Ok(());
            }
        }
    }

    fn plan_cross_signing(
        &self,
        batch: &mut Batch,
        user: UserNid,
        user_id: &UserId,
        upload: &CrossSigningUpload,
        old_master: Option<Object>,
    ) -> Result<CrossSigningChange, UserError> {
        let mut change = CrossSigningChange::default();
        let is_new_master = match (&upload.master_key, &old_master) {
            (Some(new), Some(old)) => !is_same_key(old, new),
            (Some(_), None) => true,
            (None, _) => false,
        };
        let master = upload.master_key.clone().or(old_master);
        let master_public = match &master {
            Some(master) => check_key(user_id, KeyUsage::Master, master)?.to_owned(),
            None => return Err(UserError::MissingParam("master_key")),
        };
        for usage in KeyUsage::ALL {
            let row_key = (user, usage.index());
            let Some(key) = upload.key(usage) else {
                if is_new_master && usage != KeyUsage::Master && self.store().contains(&CROSS_SIGNING, &row_key)? {
                    batch.delete(&CROSS_SIGNING, &row_key);
                    change.note(usage);
                }
                continue;
            };
            let public = check_key(user_id, usage, key)?;
            if self.store().contains(&DEVICES, &(user, public.into()))? {
                return Err(UserError::Forbidden("a cross-signing key must not equal a device ID"));
            }
            if usage != KeyUsage::Master {
                check_signed_by_master(user_id, key, &master_public)?;
            }
            if self.cross_signing_key(user, usage)?.as_ref() == Some(key) {
                continue;
            }
            let json = render_object(key)?;
            if json.len() > MAX_KEY_BYTES {
                return Err(UserError::TooLarge("the cross-signing key"));
            }
            batch.put(&CROSS_SIGNING, &row_key, &json);
            change.note(usage);
        }
        Ok(change)
    }
}

/// Who can see that something changed.
#[derive(Default)]
struct CrossSigningChange {
    public: bool,
    private: bool,
}

impl CrossSigningChange {
    fn note(&mut self, usage: KeyUsage) {
        match usage {
            KeyUsage::Master | KeyUsage::SelfSigning => self.public = true,
            KeyUsage::UserSigning => self.private = true,
        }
    }

    fn is_any(&self) -> bool {
        self.public || self.private
    }
}

/// The row of a remote user's key, if the key has the right shape and, for a self-signing key, is signed by `master`.
///
/// # Errors
/// `BadJson`, `InvalidParam`, `InvalidSignature`, `TooLarge`; `MissingParam` without the master key it needs.
pub(crate) fn check_remote_key(
    user_id: &UserId,
    usage: KeyUsage,
    key: &Object,
    master: Option<&Object>,
) -> Result<Vec<u8>, UserError> {
    check_key(user_id, usage, key)?;
    if usage != KeyUsage::Master {
        let master = master.ok_or(UserError::MissingParam("master_key"))?;
        check_signed_by_master(user_id, key, check_key(user_id, KeyUsage::Master, master)?)?;
    }
    if !key.values().all(spec::json::is_shallow) {
        return Err(UserError::BadJson("a cross-signing key is nested too deeply"));
    }
    let json = render_object(key)?;
    if json.len() > MAX_KEY_BYTES { Err(UserError::TooLarge("the cross-signing key")) } else { Ok(json) }
}

/// Checks the shape of a key and gives its public part.
fn check_key<'k>(user_id: &UserId, usage: KeyUsage, key: &'k Object) -> Result<&'k str, UserError> {
    if key.get("user_id").and_then(Value::as_str) != Some(user_id.as_str()) {
        return Err(UserError::InvalidParam("a cross-signing key names another user"));
    }
    let usages = key.get("usage").and_then(Value::as_array).ok_or(UserError::BadJson("usage is a list"))?;
    if !usages.iter().any(|entry| entry.as_str() == Some(usage.as_str())) {
        return Err(UserError::InvalidParam("a cross-signing key has the wrong usage"));
    }
    let public = public_part(key).ok_or(UserError::BadJson("a cross-signing key has exactly one ed25519 key"))?;
    VerifyKey::parse(public).map_err(|_| UserError::InvalidParam("a cross-signing key is not an ed25519 key"))?;
    Ok(public)
}

fn check_signed_by_master(user_id: &UserId, key: &Object, master_public: &str) -> Result<(), UserError> {
    let verify_key =
        VerifyKey::parse(master_public).map_err(|_| UserError::InvalidParam("the master key is not an ed25519 key"))?;
    verify_json(key, user_id.as_str(), &format!("ed25519:{master_public}"), &verify_key)
        .map_err(|_| UserError::InvalidSignature("a cross-signing key is not signed by the master key"))
}

#[cfg(test)]
mod tests;
