//! What users do that concerns the security of their accounts, told to whoever keeps the record.

use std::net::IpAddr;
use std::sync::Arc;

use spec::ids::UserId;

use crate::{SpamRule, Users};

/// Something that concerns the security of an account. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityEvent {
    /// Whose account; for a failed login whose it is said to be.
    pub user_id: UserId,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// From which address.
    pub address: Option<IpAddr>,
    /// What.
    pub kind: SecurityEventKind,
}

/// What happened to an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecurityEventKind {
    /// Somebody logged in, on this device.
    LoggedIn(String),
    /// A login was refused.
    LoginFailed,
    /// The user changed their password.
    PasswordChanged,
    /// The user signed these devices out.
    SignedOut(Vec<String>),
    /// The user signed all their devices out.
    SignedOutEverywhere,
    /// The user gave their account up; `true` with the wish to be forgotten.
    Deactivated(bool),
    /// Somebody who knows the shared secret made the account.
    RegisteredBySecret {
        /// Whether it administers the server.
        is_admin: bool,
    },
    /// Somebody wanted to make the account with the shared secret, and was refused.
    SecretRegistrationFailed,
    /// A rule against spam refused something to a new account.
    SpamRefused(SpamRule),
}

/// Keeps the record.
pub trait SecurityLog: Send + Sync {
    /// Takes an event. Must not block.
    fn note(&self, event: SecurityEvent);
}

impl Users {
    /// From now on `log` is told. Only the first one counts.
    pub fn set_security_log(&self, log: Arc<dyn SecurityLog>) {
        // A second one would be a mistake of the assembly; nothing is lost by leaving the first.
        let _ = self.inner.security_log.set(log);
    }

    /// Tells what happened, if somebody keeps the record.
    pub fn note_security(&self, user_id: &UserId, address: Option<IpAddr>, kind: SecurityEventKind) {
        if let Some(log) = self.inner.security_log.get() {
            let at_ms = self.inner.clock.now_ms();
            log.note(SecurityEvent { user_id: user_id.clone(), at_ms, address, kind });
        }
    }
}
