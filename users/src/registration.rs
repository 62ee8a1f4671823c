//! Who may register: registration tokens and the shared secret for scripts.
//!
//! Spec: Client-Server API §"Token-authenticated registration". The shared-secret form is the one that existing
//! deployment scripts speak: HMAC-SHA1 over nonce, name, password and rights, separated by NUL.

use std::collections::{HashMap, VecDeque};

use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use storage::{Batch, Keyspace, Profile, Read, stored};
use subtle::ConstantTimeEq;

use crate::{Account, AccountKind, AdminRights, NewAccount, UserError, Users};

pub(crate) const REGISTRATION_TOKENS: Keyspace<String, RegistrationTokenRow> =
    Keyspace::new("registration_tokens", Profile::Points);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RegistrationTokenRow {
    pub(crate) uses_allowed: Option<u32>,
    pub(crate) uses: u32,
    expires_at_ms: Option<u64>,
}
stored!(RegistrationTokenRow, 1);

impl RegistrationTokenRow {
    fn is_usable(&self, now_ms: u64) -> bool {
        self.uses_allowed.is_none_or(|allowed| self.uses < allowed)
            && self.expires_at_ms.is_none_or(|expires| now_ms < expires)
    }
}

/// A registration token with its limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegistrationToken {
    /// What the user types.
    pub token: String,
    /// How many accounts it may create in all; `None`: any number.
    pub uses_allowed: Option<u32>,
    /// How many accounts it has created.
    pub uses: u32,
    /// When it ends, in milliseconds since 1970; `None`: never.
    pub expires_at_ms: Option<u64>,
}

/// Adds one use of `token` to `batch`, together with the expectation that nobody uses it at the same time.
pub(crate) fn take_registration_token(
    store: &impl Read,
    batch: &mut Batch,
    token: &str,
    now_ms: u64,
) -> Result<(), UserError> {
    let key = token.to_owned();
    let row = store
        .get(&REGISTRATION_TOKENS, &key)?
        .filter(|row| row.is_usable(now_ms))
        .ok_or(UserError::Forbidden("the registration token is not valid"))?;
    batch.expect_equals(&REGISTRATION_TOKENS, &key, &row);
    batch.put(&REGISTRATION_TOKENS, &key, &RegistrationTokenRow { uses: row.uses.saturating_add(1), ..row });
    Ok(())
}

impl Users {
    /// Whether `token` could be used for a registration now.
    pub fn is_registration_token_valid(&self, token: &str) -> Result<bool, UserError> {
        if let Some(configured) = &self.config().registration_token
            && bool::from(configured.as_bytes().ct_eq(token.as_bytes()))
        {
            return Ok(true);
        }
        if !is_token_grammar(token) {
            return Ok(false);
        }
        let row = self.store().get(&REGISTRATION_TOKENS, &token.to_owned())?;
        Ok(row.is_some_and(|row| row.is_usable(self.now_ms())))
    }

    /// Makes a registration token; `token: None` chooses a random one. Cancel-safe.
    ///
    /// # Errors
    /// `InvalidParam` when the token breaks the grammar or exists.
    pub async fn create_registration_token(
        &self,
        token: Option<String>,
        uses_allowed: Option<u32>,
        expires_at_ms: Option<u64>,
    ) -> Result<RegistrationToken, UserError> {
        let token = token.unwrap_or_else(|| self.inner.random.token(16));
        if !is_token_grammar(&token) {
            return Err(UserError::InvalidParam("a registration token has 1 to 64 characters of A-Z a-z 0-9 . _ ~ -"));
        }
        let mut batch = Batch::new();
        batch.expect_absent(&REGISTRATION_TOKENS, &token);
        batch.put(&REGISTRATION_TOKENS, &token, &RegistrationTokenRow { uses_allowed, uses: 0, expires_at_ms });
        match self.try_commit(batch).await? {
            Some(_) => Ok(RegistrationToken { token, uses_allowed, uses: 0, expires_at_ms }),
            None => Err(UserError::InvalidParam("this registration token exists already")),
        }
    }

    /// All registration tokens made at run time.
    pub fn list_registration_tokens(&self) -> Result<Vec<RegistrationToken>, UserError> {
        let mut tokens = Vec::new();
        for row in self.store().scan(&REGISTRATION_TOKENS, &()).iter() {
            let (token, row) = row?;
            tokens.push(RegistrationToken {
                token,
                uses_allowed: row.uses_allowed,
                uses: row.uses,
                expires_at_ms: row.expires_at_ms,
            });
        }
        Ok(tokens)
    }

    /// One registration token made at run time.
    pub fn registration_token(&self, token: &str) -> Result<Option<RegistrationToken>, UserError> {
        if !is_token_grammar(token) {
            return Ok(None);
        }
        let row = self.store().get(&REGISTRATION_TOKENS, &token.to_owned())?;
        Ok(row.map(|row| RegistrationToken {
            token: token.to_owned(),
            uses_allowed: row.uses_allowed,
            uses: row.uses,
            expires_at_ms: row.expires_at_ms,
        }))
    }

    /// Changes the limits of a registration token; `None` leaves one as it is, `Some(None)` lifts it. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound`; `InvalidParam` for fewer uses than there were, or a time that is over.
    pub async fn update_registration_token(
        &self,
        token: &str,
        uses_allowed: Option<Option<u32>>,
        expires_at_ms: Option<Option<u64>>,
    ) -> Result<RegistrationToken, UserError> {
        if expires_at_ms.flatten().is_some_and(|expires| expires <= self.now_ms()) {
            return Err(UserError::InvalidParam("expiry_time must not be in the past"));
        }
        let key = token.to_owned();
        loop {
            let old = self.store().get(&REGISTRATION_TOKENS, &key)?.ok_or(UserError::NotFound("registration token"))?;
            let row = RegistrationTokenRow {
                uses_allowed: uses_allowed.unwrap_or(old.uses_allowed),
                expires_at_ms: expires_at_ms.unwrap_or(old.expires_at_ms),
                uses: old.uses,
            };
            if row.uses_allowed.is_some_and(|allowed| allowed < row.uses) {
                return Err(UserError::InvalidParam("the token was used more often already: delete it instead"));
            }
            let mut batch = Batch::new();
            batch.expect_equals(&REGISTRATION_TOKENS, &key, &old);
            batch.put(&REGISTRATION_TOKENS, &key, &row);
            if self.try_commit(batch).await?.is_some() {
                let RegistrationTokenRow { uses_allowed, uses, expires_at_ms } = row;
                return Ok(RegistrationToken { token: key, uses_allowed, uses, expires_at_ms });
            }
        }
    }

    /// How many registrations are under way that have shown this token and have not ended.
    pub fn pending_registrations(&self, token: &str) -> usize {
        self.inner.uia.count_shown(token, self.now_ms())
    }

    /// Deletes a registration token. Cancel-safe.
    pub async fn delete_registration_token(&self, token: &str) -> Result<(), UserError> {
        let mut batch = Batch::new();
        batch.delete(&REGISTRATION_TOKENS, &token.to_owned());
        self.store().commit(batch).await?;
        Ok(())
    }

    /// A nonce for one shared-secret registration, valid for a minute.
    ///
    /// # Errors
    /// `Forbidden` when no shared secret is configured.
    pub fn new_registration_nonce(&self) -> Result<String, UserError> {
        if self.config().registration_shared_secret.is_none() {
            return Err(UserError::Forbidden("shared-secret registration is not enabled"));
        }
        let nonce = self.inner.random.token(32);
        self.inner.nonces.remember(nonce.clone(), self.now_ms());
        Ok(nonce)
    }

    /// Creates an account for whoever knows the shared secret. The nonce is used up by any attempt. Cancel-safe.
    ///
    /// # Errors
    /// `InvalidParam` for an unknown nonce, `Forbidden` for a wrong MAC, and those of [`Users::create_account`].
    pub async fn register_with_shared_secret(&self, request: &SharedSecretRegistration) -> Result<Account, UserError> {
        let Some(secret) = &self.config().registration_shared_secret else {
            return Err(UserError::Forbidden("shared-secret registration is not enabled"));
        };
        if !self.inner.nonces.take(&request.nonce, self.now_ms()) {
            return Err(UserError::InvalidParam("unrecognised nonce"));
        }
        if !request.is_signed_with(secret.as_bytes()) {
            return Err(UserError::Forbidden("HMAC incorrect"));
        }
        let localpart = request.username.to_ascii_lowercase();
        self.create_account(NewAccount {
            localpart: &localpart,
            password: Some(&request.password),
            kind: AccountKind::User,
            admin: if request.admin { AdminRights::Granted } else { AdminRights::Denied },
            registration_token: None,
        })
        .await
    }
}

/// Body of a shared-secret registration.
#[derive(Clone, Debug, Deserialize)]
pub struct SharedSecretRegistration {
    /// From [`Users::new_registration_nonce`].
    pub nonce: String,
    /// Localpart.
    pub username: String,
    /// Password in clear.
    pub password: String,
    /// Whether the account administers the server.
    #[serde(default)]
    pub admin: bool,
    /// Part of the MAC when present; not otherwise used.
    #[serde(default)]
    pub user_type: Option<String>,
    /// HMAC-SHA1 in hexadecimal.
    pub mac: String,
}

impl SharedSecretRegistration {
    fn is_signed_with(&self, secret: &[u8]) -> bool {
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(secret) else { return false };
        let rights: &[u8] = if self.admin { b"admin" } else { b"notadmin" };
        for (i, part) in [self.nonce.as_bytes(), self.username.as_bytes(), self.password.as_bytes(), rights]
            .into_iter()
            .chain(self.user_type.as_deref().map(str::as_bytes))
            .enumerate()
        {
            if i > 0 {
                mac.update(&[0]);
            }
            mac.update(part);
        }
        decode_hex(&self.mac).is_some_and(|given| mac.verify_slice(&given).is_ok())
    }
}

fn decode_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits = digits?;
    if digits.len() % 2 != 0 {
        return None;
    }
    Some(digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| (byte << 4) | digit)).collect())
}

fn is_token_grammar(token: &str) -> bool {
    (1..=64).contains(&token.len())
        && token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'~' | b'-'))
}

/// Nonces handed out and not yet used. Bounded: the oldest is forgotten first.
#[derive(Default)]
pub(crate) struct Nonces(Mutex<NonceTable>);

#[derive(Default)]
struct NonceTable {
    expiry: HashMap<String, u64>,
    order: VecDeque<String>,
}

const NONCE_LIFETIME_MS: u64 = 60_000;
const MAX_NONCES: usize = 1_000;

impl Nonces {
    fn remember(&self, nonce: String, now_ms: u64) {
        let mut table = self.0.lock();
        if table.order.len() >= MAX_NONCES
            && let Some(oldest) = table.order.pop_front()
        {
            table.expiry.remove(&oldest);
        }
        table.order.push_back(nonce.clone());
        table.expiry.insert(nonce, now_ms + NONCE_LIFETIME_MS);
    }

    /// True exactly once per nonce, and only before it expires.
    fn take(&self, nonce: &str, now_ms: u64) -> bool {
        self.0.lock().expiry.remove(nonce).is_some_and(|expires| now_ms < expires)
    }
}

#[cfg(test)]
mod tests;
