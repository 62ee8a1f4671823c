//! Access and refresh tokens, and the sessions they stand for.
//!
//! Spec: Client-Server API §"Using access tokens", §"Refreshing access tokens", §"Soft logout".
//!
//! Tokens are stored as SHA-256 only. A session that was used recently is found in memory.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use quick_cache::sync::Cache;
use rooms::UserNid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spec::ids::UserId;
use storage::{Batch, Keyspace, Profile, Read, StreamPos, stored};

use crate::{
    AccountKind, AppService, DeviceNid, RateLimitOverride, Rights, Role, UserError, Users,
    accounts::ACCOUNTS,
    devices::{DEVICE_OWNERS, expect_device},
    roles::role_of,
};

/// SHA-256 of a token.
pub(crate) type TokenHash = [u8; 32];

pub(crate) const ACCESS_TOKENS: Keyspace<TokenHash, AccessTokenRow> = Keyspace::new("access_tokens", Profile::Points);
pub(crate) const REFRESH_TOKENS: Keyspace<TokenHash, RefreshTokenRow> =
    Keyspace::new("refresh_tokens", Profile::Points);
/// Which tokens a device has: `true` for an access token, `false` for a refresh token.
pub(crate) const DEVICE_TOKENS: Keyspace<(DeviceNid, bool, TokenHash), ()> =
    Keyspace::new("device_tokens", Profile::Points);

pub(crate) const ACCESS: bool = true;
pub(crate) const REFRESH: bool = false;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AccessTokenRow {
    pub(crate) user: UserNid,
    pub(crate) device: DeviceNid,
    expires_at_ms: Option<u64>,
    /// The pair that ends when this token is used for the first time.
    replaces: Option<TokenPair>,
}
stored!(AccessTokenRow, 1);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefreshTokenRow {
    pub(crate) user: UserNid,
    pub(crate) device: DeviceNid,
    expires_at_ms: Option<u64>,
    /// The access token that was issued together with this one.
    pub(crate) access: TokenHash,
    /// The pair that this token was exchanged for and that nobody has used yet.
    issued: Option<TokenPair>,
    /// The pair that ends when this token is used for the first time.
    replaces: Option<TokenPair>,
}
stored!(RefreshTokenRow, 1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TokenPair {
    access: TokenHash,
    refresh: TokenHash,
}

/// A logged-in device: what an access token stands for.
#[derive(Debug)]
pub struct Session {
    /// Who.
    pub user_id: UserId,
    /// Who, as a number.
    pub user: UserNid,
    /// On which device; empty for an application service that acts without one.
    pub device_id: Arc<str>,
    /// On which device, as a number.
    pub device: DeviceNid,
    /// A guest account.
    pub is_guest: bool,
    /// May use the administration API.
    pub is_admin: bool,
    /// Suspended: may read, but not write.
    pub is_suspended: bool,
    /// Locked: may only log out.
    pub is_locked: bool,
    /// The application service that acts as the user.
    pub appservice: Option<Arc<AppService>>,
    /// The account's role on this server.
    pub role: Role,
    /// What the role may do.
    pub rights: Rights,
    /// What the account writes is accepted, and reaches nobody.
    pub is_shadow_banned: bool,
    /// A limit of the account's own.
    pub rate_limit: Option<RateLimitOverride>,
    pub(crate) account_expires_at_ms: Option<u64>,
    pub(crate) newcomer_since_ms: Option<u64>,
    pub(crate) expires_at_ms: Option<u64>,
    /// When "last seen" was last written for the device.
    pub(crate) seen_written_ms: AtomicU64,
}

impl Session {
    /// Refuses a suspended account: the first line of everything that writes.
    ///
    /// # Errors
    /// `UserSuspended`.
    pub fn check_may_write(&self) -> Result<(), UserError> {
        if self.is_suspended { Err(UserError::UserSuspended) } else { Ok(()) }
    }
}

/// The tokens of a new or refreshed session, in clear: given to the client once and not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedTokens {
    /// The access token.
    pub access_token: String,
    /// The refresh token, if the client asked for one.
    pub refresh_token: Option<String>,
    /// Life of the access token in milliseconds; `None`: it does not expire.
    pub expires_in_ms: Option<u64>,
}

/// Sessions in memory.
///
/// A request may be dropped while its commit goes on, so "commit, then forget" could forget to forget. Therefore a
/// token is put in doubt *before* the commit that ends it: a token in doubt is never kept in the cache, and doubt
/// ends when the outcome of the commit is known, or long after a dropped request.
pub(crate) struct SessionCache {
    sessions: Cache<TokenHash, Arc<Session>>,
    revocations: AtomicU64,
    /// Since when.
    in_doubt: Mutex<HashMap<TokenHash, u64>>,
}

/// By then the commit of a dropped request has ended, one way or the other.
const DOUBT_ENDS_AFTER_MS: u64 = 10 * 60_000;

impl SessionCache {
    pub(crate) fn new(entries: usize) -> Self {
        let sessions = Cache::new(entries.max(16));
        Self { sessions, revocations: AtomicU64::new(0), in_doubt: Mutex::default() }
    }

    fn doubt(&self, hashes: &[TokenHash], now_ms: u64) {
        self.in_doubt.lock().extend(hashes.iter().map(|hash| (*hash, now_ms)));
        for hash in hashes {
            self.sessions.remove(hash);
        }
    }

    fn settle(&self, hashes: &[TokenHash]) {
        // First the counter: whoever read before the commit then sees it, or the doubt, or both.
        self.revocations.fetch_add(1, Ordering::SeqCst);
        let mut in_doubt = self.in_doubt.lock();
        for hash in hashes {
            in_doubt.remove(hash);
        }
    }

    /// Keeps a session that was read when the revocation counter stood at `revocations`, unless its token was put in
    /// doubt or anything was revoked since: the next request then reads again.
    fn keep(&self, hash: TokenHash, session: &Arc<Session>, revocations: u64) {
        // Held over the insertion: whoever doubts the token later removes it, and nobody finds it meanwhile.
        let in_doubt = self.in_doubt.lock();
        if !in_doubt.contains_key(&hash) && self.revocations.load(Ordering::SeqCst) == revocations {
            self.sessions.insert(hash, Arc::clone(session));
        }
    }

    /// Ends the doubts that dropped requests left behind.
    pub(crate) fn settle_old_doubts(&self, now_ms: u64) {
        self.revocations.fetch_add(1, Ordering::SeqCst);
        self.in_doubt.lock().retain(|_, since| now_ms < since.saturating_add(DOUBT_ENDS_AFTER_MS));
    }
}

pub(crate) fn hash_token(token: &str) -> TokenHash {
    Sha256::digest(token.as_bytes()).into()
}

impl Users {
    /// The session of an access token. In memory for recently used tokens; otherwise four reads, and one commit when
    /// it is the first use after a refresh (the tokens it replaces then end). Cancel-safe.
    ///
    /// # Errors
    /// `UnknownToken` (with `soft_logout` for an expired one).
    pub async fn authenticate(&self, token: &str) -> Result<Arc<Session>, UserError> {
        let session = self.authenticate_even_locked(token).await?;
        if session.is_locked {
            return Err(UserError::UserLocked);
        }
        self.check_validity(&session)?;
        Ok(session)
    }

    /// As [`Users::authenticate`], also for locked accounts: they may log out. Cancel-safe.
    ///
    /// # Errors
    /// `UnknownToken`.
    pub async fn authenticate_even_locked(&self, token: &str) -> Result<Arc<Session>, UserError> {
        let hash = hash_token(token);
        let session = match self.inner.sessions.sessions.get(&hash) {
            Some(session) => session,
            None => self.load_session(hash).await?,
        };
        if session.expires_at_ms.is_some_and(|expires| self.now_ms() >= expires) {
            return Err(UserError::UnknownToken { soft_logout: true });
        }
        Ok(session)
    }

    async fn load_session(&self, hash: TokenHash) -> Result<Arc<Session>, UserError> {
        let cache = &self.inner.sessions;
        let revocations = cache.revocations.load(Ordering::SeqCst);
        let unknown = UserError::UnknownToken { soft_logout: false };
        let Some(row) = self.store().get(&ACCESS_TOKENS, &hash)? else { return Err(unknown) };
        if row.expires_at_ms.is_some_and(|expires| self.now_ms() >= expires) {
            return Err(UserError::UnknownToken { soft_logout: true });
        }
        let owner = self
            .store()
            .get(&DEVICE_OWNERS, &row.device)?
            .ok_or(UserError::Inconsistent("an access token without its device"))?;
        let account = self
            .store()
            .get(&ACCOUNTS, &row.user)?
            .ok_or(UserError::Inconsistent("an access token without its account"))?;
        let facts = self.facts(row.user)?;
        if account.is_deactivated || facts.awaits_approval {
            return Err(unknown);
        }
        if let Some(replaced) = row.replaces {
            self.retire_replaced(hash, &row, replaced).await?;
        }
        let role = role_of(&account, &facts);
        let session = Arc::new(Session {
            user_id: self.rooms().user_id(row.user)?,
            user: row.user,
            device_id: owner.device_id,
            device: row.device,
            is_guest: account.kind == AccountKind::Guest,
            is_admin: account.is_admin,
            is_suspended: account.is_suspended,
            is_locked: account.is_locked,
            role,
            rights: Rights::of(role, &self.config().roles),
            is_shadow_banned: facts.is_shadow_banned,
            rate_limit: facts.rate_limit,
            account_expires_at_ms: facts.expires_at_ms,
            newcomer_since_ms: self.newcomer_since_ms(row.user)?,
            appservice: None,
            expires_at_ms: row.expires_at_ms,
            seen_written_ms: AtomicU64::new(self.device_seen_ms(row.device)?),
        });
        cache.keep(hash, &session, revocations);
        Ok(session)
    }

    /// The first use of a refreshed access token ends the pair that it replaces.
    async fn retire_replaced(
        &self,
        hash: TokenHash,
        row: &AccessTokenRow,
        replaced: TokenPair,
    ) -> Result<(), UserError> {
        let mut batch = Batch::new();
        batch.expect_equals(&ACCESS_TOKENS, &hash, row);
        batch.put(&ACCESS_TOKENS, &hash, &AccessTokenRow { replaces: None, ..row.clone() });
        delete_pair(&mut batch, row.device, replaced);
        let committed = self.try_commit_revoking(batch, &[replaced.access]).await?;
        // Lost the race against another first use (fine) or against a repeated refresh (then this token is gone).
        if committed.is_none() && !self.store().contains(&ACCESS_TOKENS, &hash)? {
            return Err(UserError::UnknownToken { soft_logout: false });
        }
        Ok(())
    }

    /// Adds new tokens for a device to `batch`.
    pub(crate) fn issue_tokens(
        &self,
        batch: &mut Batch,
        user: UserNid,
        device: DeviceNid,
        refreshable: bool,
    ) -> IssuedTokens {
        if refreshable {
            return self.issue_pair(batch, user, device, None).0;
        }
        let access_token = self.issue_access_token(batch, user, device, None);
        IssuedTokens { access_token, refresh_token: None, expires_in_ms: None }
    }

    /// Adds an access token that cannot be refreshed to `batch`, and gives it.
    pub(crate) fn issue_access_token(
        &self,
        batch: &mut Batch,
        user: UserNid,
        device: DeviceNid,
        expires_at_ms: Option<u64>,
    ) -> String {
        self.put_access_token(batch, &AccessTokenRow { user, device, expires_at_ms, replaces: None }).0
    }

    fn put_access_token(&self, batch: &mut Batch, row: &AccessTokenRow) -> (String, TokenHash) {
        let token = format!("cdt_{}", self.inner.random.token(40));
        let hash = hash_token(&token);
        batch.put(&ACCESS_TOKENS, &hash, row);
        batch.put(&DEVICE_TOKENS, &(row.device, ACCESS, hash), &());
        (token, hash)
    }

    fn issue_pair(
        &self,
        batch: &mut Batch,
        user: UserNid,
        device: DeviceNid,
        replaces: Option<TokenPair>,
    ) -> (IssuedTokens, TokenPair) {
        let now = self.now_ms();
        let lifetime = self.config().settings.refreshable_token_lifetime_seconds.saturating_mul(1_000);
        let expires_at_ms = Some(now.saturating_add(lifetime));
        let (access_token, access) =
            self.put_access_token(batch, &AccessTokenRow { user, device, expires_at_ms, replaces });
        let refresh_token = format!("cdr_{}", self.inner.random.token(40));
        let refresh = hash_token(&refresh_token);
        let refresh_life = self.config().settings.refresh_token_lifetime_seconds.saturating_mul(1_000);
        let expires_at_ms = (refresh_life > 0).then(|| now.saturating_add(refresh_life));
        batch.put(
            &REFRESH_TOKENS,
            &refresh,
            &RefreshTokenRow { user, device, expires_at_ms, access, issued: None, replaces },
        );
        batch.put(&DEVICE_TOKENS, &(device, REFRESH, refresh), &());
        let issued = IssuedTokens { access_token, refresh_token: Some(refresh_token), expires_in_ms: Some(lifetime) };
        (issued, TokenPair { access, refresh })
    }

    /// Exchanges a refresh token. It stays valid until one of the new tokens is used, so that a client that lost the
    /// answer can ask again. Cancel-safe.
    ///
    /// # Errors
    /// `UnknownToken`.
    pub async fn refresh(&self, refresh_token: &str) -> Result<IssuedTokens, UserError> {
        let hash = hash_token(refresh_token);
        loop {
            let row = self
                .store()
                .get(&REFRESH_TOKENS, &hash)?
                .filter(|row| row.expires_at_ms.is_none_or(|expires| self.now_ms() < expires))
                .ok_or(UserError::UnknownToken { soft_logout: false })?;
            let live = self.live_device(row.device)?;
            let (device_key, device) = live.ok_or(UserError::UnknownToken { soft_logout: false })?;
            let mut batch = Batch::new();
            let mut revoked = Vec::new();
            expect_device(&mut batch, &device_key, &device);
            for pair in [row.replaces, row.issued].into_iter().flatten() {
                delete_pair(&mut batch, row.device, pair);
                revoked.push(pair.access);
            }
            let replaces = TokenPair { access: row.access, refresh: hash };
            let (tokens, issued) = self.issue_pair(&mut batch, row.user, row.device, Some(replaces));
            batch.expect_equals(&REFRESH_TOKENS, &hash, &row);
            batch.put(&REFRESH_TOKENS, &hash, &RefreshTokenRow { issued: Some(issued), replaces: None, ..row });
            if self.try_commit_revoking(batch, &revoked).await?.is_some() {
                return Ok(tokens);
            }
        }
    }

    /// Adds the deletion of all tokens of a device to `batch`; the caller commits with
    /// [`Users::try_commit_revoking`] and the result.
    pub(crate) fn delete_device_tokens(
        &self,
        batch: &mut Batch,
        device: DeviceNid,
    ) -> Result<Vec<TokenHash>, UserError> {
        let mut revoked = Vec::new();
        for row in self.store().scan(&DEVICE_TOKENS, &device).iter() {
            let (key, ()) = row?;
            batch.delete(&DEVICE_TOKENS, &key);
            if key.1 == ACCESS {
                batch.delete(&ACCESS_TOKENS, &key.2);
                revoked.push(key.2);
            } else {
                batch.delete(&REFRESH_TOKENS, &key.2);
            }
        }
        Ok(revoked)
    }

    /// Commits a batch that ends the given sessions, or changes what they say. `None` as in [`Users::try_commit`].
    /// Cancel-safe: a cancelled call leaves their tokens in doubt, never in the cache.
    pub(crate) async fn try_commit_revoking(
        &self,
        batch: Batch,
        hashes: &[TokenHash],
    ) -> Result<Option<StreamPos>, UserError> {
        self.inner.sessions.doubt(hashes, self.now_ms());
        let committed = self.try_commit(batch).await?;
        self.inner.sessions.settle(hashes);
        Ok(committed)
    }

    /// The access tokens of all devices of a user.
    pub(crate) fn access_tokens(&self, user: UserNid) -> Result<Vec<TokenHash>, UserError> {
        let mut hashes = Vec::new();
        for device in self.device_nids(user)? {
            for row in self.store().scan(&DEVICE_TOKENS, &(device, ACCESS)).iter() {
                let ((_, _, hash), ()) = row?;
                hashes.push(hash);
            }
        }
        Ok(hashes)
    }
}

fn delete_pair(batch: &mut Batch, device: DeviceNid, pair: TokenPair) {
    batch.delete(&ACCESS_TOKENS, &pair.access);
    batch.delete(&REFRESH_TOKENS, &pair.refresh);
    batch.delete(&DEVICE_TOKENS, &(device, ACCESS, pair.access));
    batch.delete(&DEVICE_TOKENS, &(device, REFRESH, pair.refresh));
}

#[cfg(test)]
mod tests;
