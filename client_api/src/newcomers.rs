//! Rules against spam: what an account that somebody registered for themself may do only so often while it is new.
//!
//! The buckets are those of the rate limits, so the rules hold where these are enabled. For whom they hold is known to
//! the account's session ([`users::Session::spam_rules_since_ms`]). Whoever is refused is counted and recorded.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use runtime::Clock;
use runtime::config::Live;
use serde_json::{Map, Value};
use spec::ids::UserId;
use users::{SpamRule, Users};

use crate::config::{SpamAction, SpamConfig};
use crate::error::ApiError;
use crate::extract::User;
use crate::limits::RateLimits;

/// How texts of links begin, in lower case.
const LINKS: [&str; 3] = ["http://", "https://", "www."];
/// Where mentions of users and rooms point to.
const MENTION: &str = "matrix.to/";

/// The rules, and what new accounts did lately.
#[derive(Clone)]
pub(crate) struct Newcomers {
    pub(crate) limits: Arc<RateLimits>,
    pub(crate) users: Users,
    pub(crate) clock: Clock,
    pub(crate) config: Live<SpamConfig>,
}

impl Newcomers {
    /// The rules, if they hold for the caller now.
    fn rules_for(&self, user: &User) -> Option<Arc<SpamConfig>> {
        let since = user.spam_rules_since_ms()?;
        let config = self.config.get();
        let age = u64::try_from(config.new_account_age.duration().as_millis()).unwrap_or(u64::MAX);
        (self.clock.now_ms() < since.saturating_add(age)).then_some(config)
    }

    /// Counts one more of what a rule is about. Cancel-safe.
    ///
    /// # Errors
    /// `M_LIMIT_EXCEEDED` or `M_FORBIDDEN`, as configured, for a new account that did it too often.
    pub async fn check(&self, user: &User, rule: SpamRule) -> Result<(), ApiError> {
        let Some(config) = self.rules_for(user) else { return Ok(()) };
        let taken = self.limits.check_newcomer(rule, user.user, config.per_hour(rule));
        self.judge(user, rule, &config, taken).await
    }

    /// Counts invitations, and how many different users they are for. Cancel-safe.
    ///
    /// # Errors
    /// As [`Newcomers::check`].
    pub async fn check_invitations<'a>(
        &self,
        user: &User,
        targets: impl IntoIterator<Item = &'a UserId>,
    ) -> Result<(), ApiError> {
        let Some(config) = self.rules_for(user) else { return Ok(()) };
        for target in targets {
            let rule = SpamRule::Invitations;
            let taken = self.limits.check_newcomer(rule, user.user, config.per_hour(rule));
            self.judge(user, rule, &config, taken).await?;
            let rule = SpamRule::InvitedUsers;
            let taken = self.limits.check_invited(user.user, target, config.per_hour(rule));
            self.judge(user, rule, &config, taken).await?;
        }
        Ok(())
    }

    /// Counts a message, if there is a link in it. Of encrypted messages nobody here knows. Cancel-safe.
    ///
    /// # Errors
    /// As [`Newcomers::check`].
    pub async fn check_links(&self, user: &User, content: &Map<String, Value>) -> Result<(), ApiError> {
        if self.rules_for(user).is_none() || !content.values().any(has_link) {
            return Ok(());
        }
        self.check(user, SpamRule::Links).await
    }

    async fn judge(
        &self,
        user: &User,
        rule: SpamRule,
        config: &SpamConfig,
        taken: Result<(), Duration>,
    ) -> Result<(), ApiError> {
        let Err(wait) = taken else { return Ok(()) };
        self.users.note_spam(user, rule).await;
        let message = "a new account may not do this so often: wait, or ask an administrator of this server";
        Err(match config.action {
            SpamAction::Forbid => ApiError::forbidden(message),
            SpamAction::Limit => {
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
                let refusal = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "M_LIMIT_EXCEEDED", message);
                refusal.with("retry_after_ms", wait_ms)
            }
        })
    }
}

/// Whether a text in a value has a link that is not a mention.
fn has_link(value: &Value) -> bool {
    match value {
        Value::String(text) => is_link_in(text),
        Value::Array(values) => values.iter().any(has_link),
        Value::Object(values) => values.values().any(has_link),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_link_in(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    LINKS.into_iter().any(|link| text.split(link).skip(1).any(|rest| !rest.starts_with(MENTION)))
}

#[cfg(test)]
mod tests;
