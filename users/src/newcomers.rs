//! Accounts that somebody registered for themself: while they are new, rules against spam hold for them. Which of these
//! accounts are exempted, and whom a rule has refused.
//!
//! What the rules allow, and how long an account is new, is for those to say who enforce them where a client asks.
//! Accounts that administrators, scripts and application services make have no row here, and no rule holds for them.

use rooms::UserNid;
use runtime::Counter;
use runtime::Metrics;
use serde::{Deserialize, Serialize};
use storage::{Batch, Keyspace, Profile, Read, stored};

use crate::{
    AccountKind, RateLimitOverride, Role, SecurityEventKind, Session, UserError, Users, accounts::AccountRow,
    topics::account_topic, transactions::HOUR_MS,
};

/// Accounts that registered themselves, and are not exempted.
pub(crate) const NEWCOMERS: Keyspace<UserNid, NewcomerRow> = Keyspace::new("newcomers", Profile::Points);
/// Hour since 1970, account, rule → how often the rule refused.
pub(crate) const SPAM_REFUSALS: Keyspace<(u64, UserNid, u8), i64> = Keyspace::new("spam_refusals", Profile::Points);

/// For how many hours it is kept whom a rule refused.
const REFUSALS_KEPT_HOURS: u64 = 90 * 24;
/// The most rows of refusals that one look reads.
const MAX_REFUSALS: usize = 100_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NewcomerRow {
    since_ms: u64,
}
stored!(NewcomerRow, 1);

/// What new accounts may do only so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpamRule {
    /// Making rooms.
    Rooms,
    /// Sending invitations.
    Invitations,
    /// Inviting different users.
    InvitedUsers,
    /// Joining and knocking.
    Joins,
    /// Sending messages with links.
    Links,
    /// Uploading media.
    Uploads,
}

impl SpamRule {
    /// All of them.
    pub const ALL: [SpamRule; 6] = [
        SpamRule::Rooms,
        SpamRule::Invitations,
        SpamRule::InvitedUsers,
        SpamRule::Joins,
        SpamRule::Links,
        SpamRule::Uploads,
    ];

    /// Its name in records, metrics and lists.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SpamRule::Rooms => "rooms",
            SpamRule::Invitations => "invitations",
            SpamRule::InvitedUsers => "invited-users",
            SpamRule::Joins => "joins",
            SpamRule::Links => "links",
            SpamRule::Uploads => "uploads",
        }
    }

    /// What refusals of it are stored under.
    fn number(self) -> u8 {
        match self {
            SpamRule::Rooms => 1,
            SpamRule::Invitations => 2,
            SpamRule::InvitedUsers => 3,
            SpamRule::Joins => 4,
            SpamRule::Links => 5,
            SpamRule::Uploads => 6,
        }
    }
}

/// How often a rule refused an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpamRefusals {
    /// Whom.
    pub user: UserNid,
    /// Which rule.
    pub rule: SpamRule,
    /// How often.
    pub count: u64,
    /// The hour of the last time, as the milliseconds since 1970 of its beginning.
    pub last_hour_ms: u64,
}

/// Refusals since the start, by rule.
#[derive(Debug, Default)]
pub(crate) struct SpamMeters([Counter; SpamRule::ALL.len()]);

impl SpamMeters {
    fn of(&self, rule: SpamRule) -> Option<&Counter> {
        self.0.get(usize::from(rule.number()).checked_sub(1)?)
    }
}

impl Session {
    /// Since when rules against spam hold for the account, in milliseconds since 1970; `None` where they do not:
    /// administrators, moderators, application services, accounts without rate limits, exempted accounts and those
    /// that did not register themselves.
    #[must_use]
    pub fn spam_rules_since_ms(&self) -> Option<u64> {
        let is_ordinary = matches!(self.role, Role::Member | Role::Guest) && self.appservice.is_none();
        let is_limited = !self.rate_limit.is_some_and(RateLimitOverride::is_unlimited);
        self.newcomer_since_ms.filter(|_| is_ordinary && is_limited)
    }
}

impl Users {
    /// Adds to `batch` that an account has registered itself.
    pub(crate) fn put_newcomer(&self, batch: &mut Batch, user: UserNid, row: &AccountRow) {
        if row.kind != AccountKind::Appservice {
            batch.put(&NEWCOMERS, &user, &NewcomerRow { since_ms: row.created_ms });
        }
    }

    pub(crate) fn newcomer_since_ms(&self, user: UserNid) -> Result<Option<u64>, UserError> {
        Ok(self.store().get(&NEWCOMERS, &user)?.map(|row| row.since_ms))
    }

    /// Whether the rules for new accounts hold for this one for as long as it is new.
    pub fn has_spam_rules(&self, user: UserNid) -> Result<bool, UserError> {
        Ok(self.store().contains(&NEWCOMERS, &user)?)
    }

    /// Exempts an account from the rules for new accounts, or ends that; its open sessions notice at their next
    /// request. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound` where there is no account.
    pub async fn set_spam_exemption(&self, user: UserNid, is_exempt: bool) -> Result<(), UserError> {
        let account = self.account(user)?.ok_or(UserError::NotFound("account"))?;
        let mut batch = Batch::new();
        match is_exempt {
            true => batch.delete(&NEWCOMERS, &user),
            false => batch.put(&NEWCOMERS, &user, &NewcomerRow { since_ms: account.created_ms }),
        };
        batch.touch(account_topic(user));
        self.try_commit_revoking(batch, &self.access_tokens(user)?).await?;
        Ok(())
    }

    /// Lets an account in that waits for approval, and exempts it from the rules for new accounts: somebody has looked
    /// at it. Cancel-safe; called again, it completes what was interrupted.
    ///
    /// # Errors
    /// `NotFound` where there is no account.
    pub async fn approve(&self, user: UserNid) -> Result<(), UserError> {
        self.set_spam_exemption(user, true).await?;
        self.change_facts(user, |facts| facts.awaits_approval = false).await?;
        Ok(())
    }

    /// Counts that a rule refused an account, for operators, metrics and the record. A failure is logged: the refusal
    /// stands. Cancel-safe.
    pub async fn note_spam(&self, session: &Session, rule: SpamRule) {
        if let Some(counter) = self.inner.spam_meters.of(rule) {
            counter.add(1);
        }
        self.note_security(&session.user_id, None, SecurityEventKind::SpamRefused(rule));
        let mut batch = Batch::new();
        batch.add(&SPAM_REFUSALS, &(self.now_ms() / HOUR_MS, session.user, rule.number()), 1);
        if let Err(error) = self.store().commit(batch).await {
            tracing::warn!(%error, "what a rule against spam refused was not counted");
        }
    }

    /// Whom rules against spam refused since a time, in milliseconds since 1970, taken to begin with its hour: the
    /// latest first. Refusals are kept for 90 days.
    pub fn spam_refusals(&self, since_ms: u64) -> Result<Vec<SpamRefusals>, UserError> {
        let mut found: Vec<SpamRefusals> = Vec::new();
        let mut places = std::collections::HashMap::new();
        let since = since_ms / HOUR_MS;
        for row in self.store().scan(&SPAM_REFUSALS, &()).reverse().iter().take(MAX_REFUSALS) {
            let ((hour, user, number), count) = row?;
            if hour < since {
                break;
            }
            let Some(rule) = SpamRule::ALL.into_iter().find(|rule| rule.number() == number) else { continue };
            let count = u64::try_from(count).unwrap_or(0);
            let place = *places.entry((user, number)).or_insert(found.len());
            match found.get_mut(place) {
                Some(refusals) => refusals.count = refusals.count.saturating_add(count),
                None => found.push(SpamRefusals { user, rule, count, last_hour_ms: hour.saturating_mul(HOUR_MS) }),
            }
        }
        Ok(found)
    }

    /// Forgets refusals that are too old.
    pub(crate) async fn forget_spam_refusals(&self, now_ms: u64) -> Result<(), UserError> {
        let horizon = (now_ms / HOUR_MS).saturating_sub(REFUSALS_KEPT_HOURS);
        let mut batch = Batch::new();
        for key in self.store().scan(&SPAM_REFUSALS, &()).keys() {
            let key = key?;
            if key.0 >= horizon || batch.size() >= 1_000_000 {
                break;
            }
            batch.delete(&SPAM_REFUSALS, &key);
        }
        if !batch.is_empty() {
            self.store().commit(batch).await?;
        }
        Ok(())
    }

    /// Shows the figures of accounts.
    pub fn publish_metrics(&self, metrics: &Metrics) {
        let help = "What new accounts were refused by the rules against spam, by rule.";
        for rule in SpamRule::ALL {
            if let Some(counter) = self.inner.spam_meters.of(rule) {
                metrics.publish("conduit_spam_refusals_total", help, &[("rule", rule.as_str())], counter);
            }
        }
    }
}

#[cfg(test)]
mod tests;
