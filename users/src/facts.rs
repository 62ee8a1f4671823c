//! What administrators decided about an account, beyond its flags: role, shadow-ban, rate limit, approval, expiry.
//!
//! An account without a row has none of these. Open sessions repeat some of it, so that every change ends what is in
//! memory of them, as changes of the account itself do.

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use storage::{Batch, Keyspace, Profile, Read, stored};

use crate::{Role, Session, UserError, Users, topics::account_topic};

pub(crate) const ACCOUNT_FACTS: Keyspace<UserNid, AccountFacts> = Keyspace::new("account_facts", Profile::Points);

/// The longest type of an account, in bytes.
const MAX_USER_TYPE_BYTES: usize = 255;
/// The characters of an event ID after its `$`, in room versions from 3 on.
const EVENT_ID_CHARS: usize = 43;

/// What is decided about an account.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFacts {
    /// `Moderator` or `Guest`, if it was given that role; administrators are such by their account.
    pub role: Option<Role>,
    /// What the account writes is accepted, and reaches nobody.
    pub is_shadow_banned: bool,
    /// It registered itself, and an administrator has not yet approved it: it cannot log in.
    pub awaits_approval: bool,
    /// Its owner, or an administrator, wanted everything erased that can be.
    pub is_erased: bool,
    /// What administrators call its kind: `bot`, `support`, or a word of their own.
    pub user_type: Option<String>,
    /// The limit of its requests, instead of the configured ones.
    pub rate_limit: Option<RateLimitOverride>,
    /// From when on it is refused until it is renewed, in milliseconds since 1970.
    pub expires_at_ms: Option<u64>,
    /// Until when its cross-signing keys may be replaced without its password, in milliseconds since 1970.
    pub cross_signing_until_ms: Option<u64>,
}
stored!(AccountFacts, 1);

/// A limit of one account's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimitOverride {
    /// How many requests of a class it may make in a second; 0 means that it is not limited at all.
    pub per_second: u32,
    /// How many of them at once; 0 is taken as 1.
    pub burst: u32,
}

impl RateLimitOverride {
    /// Whether it means that nothing is limited.
    #[must_use]
    pub fn is_unlimited(self) -> bool {
        self.per_second == 0
    }
}

impl Session {
    /// Whether the account has expired by now.
    fn is_expired(&self, now_ms: u64) -> bool {
        self.account_expires_at_ms.is_some_and(|expires| now_ms >= expires)
    }
}

impl Users {
    /// What is decided about an account; nothing where there is none.
    pub fn facts(&self, user: UserNid) -> Result<AccountFacts, UserError> {
        Ok(self.store().get(&ACCOUNT_FACTS, &user)?.unwrap_or_default())
    }

    /// Changes what is decided about an account; its open sessions notice at their next request. Roles are changed by
    /// [`Users::set_role`]. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound` where there is no account; `TooLarge` for the account's type.
    pub async fn change_facts(
        &self,
        user: UserNid,
        mut change: impl FnMut(&mut AccountFacts),
    ) -> Result<AccountFacts, UserError> {
        loop {
            self.account(user)?.ok_or(UserError::NotFound("account"))?;
            let stored = self.store().get(&ACCOUNT_FACTS, &user)?;
            let old = stored.clone().unwrap_or_default();
            let mut facts = old.clone();
            change(&mut facts);
            facts.role = old.role;
            if facts == old {
                return Ok(facts);
            }
            check_facts(&facts)?;
            let mut batch = Batch::new();
            self.put_facts(&mut batch, user, stored.as_ref(), &facts);
            if self.try_commit_revoking(batch, &self.access_tokens(user)?).await?.is_some() {
                return Ok(facts);
            }
        }
    }

    /// Adds a change of the facts of an account to `batch`, with the expectation that nobody changes them meanwhile.
    pub(crate) fn put_facts(
        &self,
        batch: &mut Batch,
        user: UserNid,
        stored: Option<&AccountFacts>,
        facts: &AccountFacts,
    ) {
        match stored {
            Some(stored) => batch.expect_equals(&ACCOUNT_FACTS, &user, stored),
            None => batch.expect_absent(&ACCOUNT_FACTS, &user),
        };
        batch.put(&ACCOUNT_FACTS, &user, facts);
        batch.touch(account_topic(user));
    }

    /// The facts of an account that begins now.
    pub(crate) fn new_facts(&self) -> AccountFacts {
        AccountFacts { expires_at_ms: self.next_expiry_ms(), ..AccountFacts::default() }
    }

    /// When an account expires that is made or renewed now; `None` if accounts do not expire here.
    pub fn next_expiry_ms(&self) -> Option<u64> {
        let days = self.config().settings.account_validity_days;
        (days > 0).then(|| self.now_ms().saturating_add(days.saturating_mul(24 * 3_600_000)))
    }

    /// Refuses a session of an account that has expired.
    ///
    /// # Errors
    /// `AccountExpired`.
    pub fn check_validity(&self, session: &Session) -> Result<(), UserError> {
        if session.is_expired(self.now_ms()) { Err(UserError::AccountExpired) } else { Ok(()) }
    }

    /// Refuses to log an account in that nobody has approved, or that has expired.
    ///
    /// # Errors
    /// `AwaitingApproval`, `AccountExpired`.
    pub(crate) fn check_may_log_in(&self, user: UserNid) -> Result<(), UserError> {
        let facts = self.facts(user)?;
        if facts.awaits_approval {
            return Err(UserError::AwaitingApproval);
        }
        match facts.expires_at_ms {
            Some(expires) if self.now_ms() >= expires => Err(UserError::AccountExpired),
            _ => Ok(()),
        }
    }

    /// An event ID for what a shadow-banned user sends: no event has it. A repeated transaction gets the same one, as
    /// it would for an event that exists; without a transaction every call gives another.
    pub fn pretend_event_id(&self, user: UserNid, transaction: Option<&str>) -> String {
        let Some(transaction) = transaction else { return format!("${}", self.inner.random.token(EVENT_ID_CHARS)) };
        let mut hash = Sha256::new();
        hash.update(self.inner.pretence);
        hash.update(user.0.to_be_bytes());
        hash.update(transaction.as_bytes());
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let first: [u8; 32] = hash.finalize().into();
        let second: [u8; 32] = Sha256::digest(first).into();
        let symbols = first.iter().chain(&second).filter_map(|byte| alphabet.get(usize::from(byte & 63)));
        std::iter::once('$').chain(symbols.map(|symbol| char::from(*symbol)).take(EVENT_ID_CHARS)).collect()
    }
}

fn check_facts(facts: &AccountFacts) -> Result<(), UserError> {
    match &facts.user_type {
        Some(kind) if kind.len() > MAX_USER_TYPE_BYTES => Err(UserError::TooLarge("the type of the account")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
