//! Names that accounts have elsewhere: e-mail addresses and telephone numbers, and the ids of sign-on providers.
//!
//! Administrators write them down and look accounts up by them. Nothing is proven by them: nobody logs in with one.
//! A name belongs to one account at most.

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use storage::{Batch, Keyspace, Profile, Read, stored};

use crate::{UserError, Users};

/// Owner, medium, address.
pub(crate) const THIRD_PARTY_IDS: Keyspace<(UserNid, String, String), ThirdPartyRow> =
    Keyspace::new("third_party_ids", Profile::Points);
/// Medium, address → owner.
pub(crate) const THIRD_PARTY_OWNERS: Keyspace<(String, String), UserNid> =
    Keyspace::new("third_party_owners", Profile::Points);
/// Owner, provider, id there.
pub(crate) const EXTERNAL_IDS: Keyspace<(UserNid, String, String), ()> = Keyspace::new("external_ids", Profile::Points);
/// Provider, id there → owner.
pub(crate) const EXTERNAL_OWNERS: Keyspace<(String, String), UserNid> =
    Keyspace::new("external_owners", Profile::Points);

/// How many of each kind an account has at most.
const MAX_IDS: usize = 100;
const MAX_ADDRESS_BYTES: usize = 500;
const MAX_PROVIDER_BYTES: usize = 255;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ThirdPartyRow {
    added_ms: u64,
    validated_ms: u64,
}
stored!(ThirdPartyRow, 1);

/// An e-mail address or telephone number of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThirdPartyId {
    /// `email` or `msisdn`.
    pub medium: String,
    /// The address, in lower case for `email`.
    pub address: String,
    /// When it was written down, in milliseconds since 1970.
    pub added_at: u64,
    /// When it was found to be the owner's, in milliseconds since 1970: the same, for those of administrators.
    pub validated_at: u64,
}

/// The id that a sign-on provider has for an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExternalId {
    /// The provider's id in the configuration.
    pub auth_provider: String,
    /// The account's id there.
    pub external_id: String,
}

impl Users {
    /// The e-mail addresses and telephone numbers of an account.
    pub fn third_party_ids(&self, user: UserNid) -> Result<Vec<ThirdPartyId>, UserError> {
        let rows = self.store().scan(&THIRD_PARTY_IDS, &user);
        let read = rows.iter().map(|row| {
            let ((_, medium, address), row) = row?;
            Ok(ThirdPartyId { medium, address, added_at: row.added_ms, validated_at: row.validated_ms })
        });
        read.collect()
    }

    /// Whose address this is.
    pub fn find_by_third_party_id(&self, medium: &str, address: &str) -> Result<Option<UserNid>, UserError> {
        let Ok(key) = normalise_address(medium, address) else { return Ok(None) };
        Ok(self.store().get(&THIRD_PARTY_OWNERS, &key)?)
    }

    /// Replaces the e-mail addresses and telephone numbers of an account, given as medium and address. Cancel-safe.
    ///
    /// # Errors
    /// `InvalidParam` for another medium, an address that is none, or too many; `IdentityInUse` for another account's.
    pub async fn set_third_party_ids(&self, user: UserNid, ids: &[(String, String)]) -> Result<(), UserError> {
        let wanted = self.check_third_party_ids(Some(user), ids)?;
        loop {
            let mut batch = Batch::new();
            let now = self.now_ms();
            for old in self.third_party_ids(user)? {
                let key = (old.medium, old.address);
                if !wanted.contains(&key) {
                    batch.delete(&THIRD_PARTY_OWNERS, &key);
                    batch.delete(&THIRD_PARTY_IDS, &(user, key.0, key.1));
                }
            }
            for key in &wanted {
                match self.store().get(&THIRD_PARTY_OWNERS, key)? {
                    Some(owner) if owner == user => {}
                    Some(_) => return Err(UserError::IdentityInUse("this address")),
                    None => {
                        batch.expect_absent(&THIRD_PARTY_OWNERS, key);
                        batch.put(&THIRD_PARTY_OWNERS, key, &user);
                        let row = ThirdPartyRow { added_ms: now, validated_ms: now };
                        batch.put(&THIRD_PARTY_IDS, &(user, key.0.clone(), key.1.clone()), &row);
                    }
                }
            }
            if batch.is_empty() || self.try_commit(batch).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Whether an account, or one that is to be made, can have these e-mail addresses and telephone numbers; gives them
    /// as they are kept.
    ///
    /// # Errors
    /// As [`Users::set_third_party_ids`].
    pub fn check_third_party_ids(
        &self,
        user: Option<UserNid>,
        ids: &[(String, String)],
    ) -> Result<Vec<(String, String)>, UserError> {
        if ids.len() > MAX_IDS {
            return Err(UserError::InvalidParam("too many third-party ids"));
        }
        let mut wanted =
            ids.iter().map(|(medium, address)| normalise_address(medium, address)).collect::<Result<Vec<_>, _>>()?;
        wanted.sort();
        wanted.dedup();
        for key in &wanted {
            if self.store().get(&THIRD_PARTY_OWNERS, key)?.is_some_and(|owner| Some(owner) != user) {
                return Err(UserError::IdentityInUse("this address"));
            }
        }
        Ok(wanted)
    }

    /// The ids that sign-on providers have for an account.
    pub fn external_ids(&self, user: UserNid) -> Result<Vec<ExternalId>, UserError> {
        let keys = self.store().scan(&EXTERNAL_IDS, &user).keys();
        let read = keys.map(|key| {
            let (_, auth_provider, external_id) = key?;
            Ok(ExternalId { auth_provider, external_id })
        });
        read.collect()
    }

    /// Whose id at a sign-on provider this is.
    pub fn find_by_external_id(&self, id: &ExternalId) -> Result<Option<UserNid>, UserError> {
        if check_external_id(id).is_err() {
            return Ok(None);
        }
        Ok(self.store().get(&EXTERNAL_OWNERS, &(id.auth_provider.clone(), id.external_id.clone()))?)
    }

    /// Replaces the ids that sign-on providers have for an account. Cancel-safe.
    ///
    /// # Errors
    /// `InvalidParam` for an id that is none, or too many; `IdentityInUse` for another account's.
    pub async fn set_external_ids(&self, user: UserNid, ids: &[ExternalId]) -> Result<(), UserError> {
        if ids.len() > MAX_IDS {
            return Err(UserError::InvalidParam("too many external ids"));
        }
        ids.iter().try_for_each(check_external_id)?;
        let wanted: std::collections::BTreeSet<&ExternalId> = ids.iter().collect();
        loop {
            let mut batch = Batch::new();
            for old in self.external_ids(user)?.into_iter().filter(|old| !wanted.contains(old)) {
                let ExternalId { auth_provider, external_id } = old;
                batch.delete(&EXTERNAL_OWNERS, &(auth_provider.clone(), external_id.clone()));
                batch.delete(&EXTERNAL_IDS, &(user, auth_provider, external_id));
            }
            for ExternalId { auth_provider, external_id } in &wanted {
                let key = (auth_provider.clone(), external_id.clone());
                match self.store().get(&EXTERNAL_OWNERS, &key)? {
                    Some(owner) if owner == user => {}
                    Some(_) => return Err(UserError::IdentityInUse("this external id")),
                    None => {
                        batch.expect_absent(&EXTERNAL_OWNERS, &key);
                        batch.put(&EXTERNAL_OWNERS, &key, &user);
                        batch.put(&EXTERNAL_IDS, &(user, key.0, key.1), &());
                    }
                }
            }
            if batch.is_empty() || self.try_commit(batch).await?.is_some() {
                return Ok(());
            }
        }
    }

    /// Forgets the names that a deactivated account has elsewhere.
    pub(crate) async fn erase_third_party_ids(&self, user: UserNid) -> Result<(), UserError> {
        self.set_third_party_ids(user, &[]).await?;
        self.set_external_ids(user, &[]).await
    }
}

/// E-mail addresses are found whatever their case; a telephone number is digits only.
fn normalise_address(medium: &str, address: &str) -> Result<(String, String), UserError> {
    let address = address.trim();
    let is_plausible = match medium {
        "email" => address.split_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty()),
        "msisdn" => !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_digit()),
        _ => return Err(UserError::InvalidParam("the medium is email or msisdn")),
    };
    if !is_plausible || address.len() > MAX_ADDRESS_BYTES {
        return Err(UserError::InvalidParam("this is no e-mail address or telephone number"));
    }
    Ok((medium.to_owned(), address.to_lowercase()))
}

fn check_external_id(id: &ExternalId) -> Result<(), UserError> {
    let is_length_fine = |text: &str, most: usize| (1..=most).contains(&text.len());
    if is_length_fine(&id.auth_provider, MAX_PROVIDER_BYTES) && is_length_fine(&id.external_id, MAX_ADDRESS_BYTES) {
        Ok(())
    } else {
        Err(UserError::InvalidParam("auth_provider and external_id are texts of reasonable length"))
    }
}

#[cfg(test)]
mod tests;
