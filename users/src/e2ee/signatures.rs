//! Signatures that users add to keys: on their own devices and master key, and on other users' master keys.
//!
//! Spec: Client-Server API §"Cross-signing", `POST /keys/signatures/upload`. Signatures are stored beside the keys,
//! because not everybody may see them: one by a user-signing key is for its maker only.

use std::{collections::BTreeMap, sync::Arc};

use rooms::UserNid;
use serde::Serialize;
use serde_json::{Map, Value};
use spec::{
    ids::UserId,
    signing::{VerifyKey, verify_json},
};
use storage::{Batch, Keyspace, Profile, Read};

use super::{
    Object,
    cross_signing::{KeyUsage, public_part},
    device_keys::DEVICE_KEYS,
    is_same_key, parse_object,
};
use crate::{
    UserError, Users,
    device_lists::{DeviceListChangeKind, log_device_list_change, log_private_signature},
};

/// Owner of the signed key, its device ID or public part, signer, signing key → signature.
pub(crate) const SIGNATURES: Keyspace<(UserNid, String, UserNid, String), String> =
    Keyspace::new("key_signatures", Profile::Points);

const MAX_SIGNATURE_BYTES: usize = 256;
const MAX_KEY_ID_BYTES: usize = 255;

/// Body of `/keys/signatures/upload`: user → device ID or public part → signed object.
pub type SignatureUpload = BTreeMap<UserId, BTreeMap<String, Object>>;

/// Why one signature was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignatureFailure {
    /// `M_INVALID_SIGNATURE` or `M_NOT_FOUND`.
    pub errcode: &'static str,
    /// The same in words.
    pub error: &'static str,
}

const NOT_FOUND: SignatureFailure = SignatureFailure { errcode: "M_NOT_FOUND", error: "the signed key is not known" };
const CHANGED: SignatureFailure =
    SignatureFailure { errcode: "M_INVALID_SIGNATURE", error: "the signed object differs from the key known here" };
const NOT_SIGNED: SignatureFailure =
    SignatureFailure { errcode: "M_INVALID_SIGNATURE", error: "there is no valid signature by the expected key" };

/// Signatures on one user's keys, as far as a viewer may see them.
pub(crate) struct Signatures(Vec<(String, UserId, String, String)>);

impl Signatures {
    /// Adds what is known for the key with this device ID or public part.
    pub(crate) fn merge_into(&self, key: &mut Object, key_id: &str) {
        for (target, signer, signing_key, signature) in &self.0 {
            if target == key_id {
                let all = key.entry("signatures").or_insert_with(|| Value::Object(Map::new()));
                let by_signer = all
                    .as_object_mut()
                    .map(|all| all.entry(signer.as_str()).or_insert_with(|| Value::Object(Map::new())));
                if let Some(Value::Object(by_signer)) = by_signer {
                    by_signer.insert(signing_key.clone(), Value::String(signature.clone()));
                }
            }
        }
    }
}

/// How a signed key may be signed, and by what.
struct Signable {
    stored: Object,
    /// Key ID → key, of the keys whose signature counts.
    signers: Vec<(String, VerifyKey)>,
}

impl Users {
    pub(crate) fn signatures_on(&self, user: UserNid, viewer: Option<UserNid>) -> Result<Signatures, UserError> {
        let mut visible = Vec::new();
        for row in self.store().scan(&SIGNATURES, &user).iter() {
            let ((_, target, signer, signing_key), signature) = row?;
            if signer == user || Some(signer) == viewer {
                visible.push((target, self.rooms().user_id(signer)?, signing_key, signature));
            }
        }
        Ok(Signatures(visible))
    }

    /// Takes over the valid ones of the uploaded signatures, in one commit, and names the others. Cancel-safe.
    pub async fn upload_signatures(
        &self,
        signer: UserNid,
        upload: &SignatureUpload,
    ) -> Result<BTreeMap<UserId, BTreeMap<String, SignatureFailure>>, UserError> {
        let signer_id = self.rooms().user_id(signer)?;
        let mut failures: BTreeMap<UserId, BTreeMap<String, SignatureFailure>> = BTreeMap::new();
        let mut batch = Batch::new();
        for (target_id, keys) in upload {
            let target = self.rooms().user_nid(target_id)?;
            for (key_id, object) in keys {
                let result = match target {
                    Some(target) => self.take_signature(&mut batch, (signer, &signer_id), target, key_id, object)?,
                    None => Err(NOT_FOUND),
                };
                if let Err(failure) = result {
                    failures.entry(target_id.clone()).or_default().insert(key_id.clone(), failure);
                }
            }
        }
        if !batch.is_empty() {
            self.store().commit(batch).await?;
        }
        Ok(failures)
    }

    fn take_signature(
        &self,
        batch: &mut Batch,
        (signer, signer_id): (UserNid, &UserId),
        target: UserNid,
        key_id: &str,
        object: &Object,
    ) -> Result<Result<(), SignatureFailure>, UserError> {
        let signable = if key_id.len() > MAX_KEY_ID_BYTES { None } else { self.signable(signer, target, key_id)? };
        let Some(signable) = signable else { return Ok(Err(NOT_FOUND)) };
        if !is_same_key(&signable.stored, object) {
            return Ok(Err(CHANGED));
        }
        let mut is_signed = false;
        for (signing_key, verify_key) in &signable.signers {
            if verify_json(object, signer_id.as_str(), signing_key, verify_key).is_err() {
                continue;
            }
            let Some(signature) = find_signature(object, signer_id, signing_key) else { continue };
            is_signed = true;
            let row_key = (target, key_id.to_owned(), signer, signing_key.clone());
            batch.put(&SIGNATURES, &row_key, &signature.to_owned());
        }
        if !is_signed {
            return Ok(Err(NOT_SIGNED));
        }
        if signer == target {
            let device_id: Arc<str> = key_id.into();
            if self.has_device_keys(target, &device_id)? {
                log_device_list_change(batch, target, Some(&device_id), DeviceListChangeKind::Updated);
            } else {
                log_device_list_change(batch, target, None, DeviceListChangeKind::CrossSigning);
            }
        } else {
            log_private_signature(batch, target, signer);
        }
        Ok(Ok(()))
    }

    /// The key named by `key_id`, and whose signatures on it `signer` may upload: the self-signing key signs own
    /// devices, own devices sign the own master key, the user-signing key signs others' master keys.
    fn signable(&self, signer: UserNid, target: UserNid, key_id: &str) -> Result<Option<Signable>, UserError> {
        if signer == target
            && let Some(json) = self.store().get(&DEVICE_KEYS, &(target, key_id.into()))?
        {
            let signers = self.cross_signer(signer, KeyUsage::SelfSigning)?;
            return Ok(Some(Signable { stored: parse_object(&json)?, signers }));
        }
        let master = self.cross_signing_key(target, KeyUsage::Master)?;
        let Some(stored) = master.filter(|master| public_part(master) == Some(key_id)) else { return Ok(None) };
        let signers = if signer == target {
            self.device_signers(signer)?
        } else {
            self.cross_signer(signer, KeyUsage::UserSigning)?
        };
        Ok(Some(Signable { stored, signers }))
    }

    fn cross_signer(&self, user: UserNid, usage: KeyUsage) -> Result<Vec<(String, VerifyKey)>, UserError> {
        let key = self.cross_signing_key(user, usage)?;
        let public = key.as_ref().and_then(public_part);
        let signer = public.and_then(|p| Some((format!("ed25519:{p}"), VerifyKey::parse(p).ok()?)));
        Ok(signer.into_iter().collect())
    }

    fn device_signers(&self, user: UserNid) -> Result<Vec<(String, VerifyKey)>, UserError> {
        let mut signers = Vec::new();
        for row in self.store().scan(&DEVICE_KEYS, &user).iter() {
            let ((_, device_id), json) = row?;
            let name = format!("ed25519:{device_id}");
            let keys = parse_object(&json)?;
            let public = keys.get("keys").and_then(|keys| keys.get(&name)).and_then(Value::as_str);
            signers.extend(public.and_then(|p| VerifyKey::parse(p).ok()).map(|key| (name, key)));
        }
        Ok(signers)
    }
}

fn find_signature<'o>(object: &'o Object, signer: &UserId, key_id: &str) -> Option<&'o str> {
    let signature = object.get("signatures")?.get(signer.as_str())?.get(key_id)?.as_str()?;
    (signature.len() <= MAX_SIGNATURE_BYTES).then_some(signature)
}
