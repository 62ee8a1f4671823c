//! The `users` section of the configuration.

use serde::{Deserialize, Serialize};

/// Who may create an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationMode {
    /// Nobody, except through the shared secret or the command line.
    #[default]
    Closed,
    /// Whoever presents a valid registration token.
    Token,
    /// Anybody.
    Open,
}

/// Accounts, sessions and passwords.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UsersConfig {
    /// Who may create an account: `closed`, `token` or `open`.
    pub registration: RegistrationMode,
    /// A registration token that is always valid, any number of times. More tokens can be made at run time.
    pub registration_token: Option<String>,
    /// Secret with which scripts create accounts (HMAC-SHA1 over a nonce).
    pub registration_shared_secret: Option<String>,
    /// Whether guests (accounts without a password, for looking around) may be created.
    pub allow_guests: bool,
    /// Shortest accepted password, in characters.
    pub password_min_length: usize,
    /// How many passwords are hashed at the same time; 0 means half of the processor cores.
    pub password_hashing_threads: usize,
    /// How many requests may wait for a password hash before further ones are refused.
    pub password_hashing_queue: usize,
    /// Life of an access token that can be refreshed, in seconds. Others do not expire.
    pub refreshable_token_lifetime_seconds: u64,
    /// Life of a refresh token, in seconds; 0 means that it does not expire.
    pub refresh_token_lifetime_seconds: u64,
    /// How many sessions are kept in memory; further ones are read from the store.
    pub session_cache_entries: usize,
    /// Whether presence is kept and shown.
    pub presence: bool,
    /// Whether the user directory shows every account of this server, or only users with whom one shares a room.
    pub search_all_local_users: bool,
}

impl Default for UsersConfig {
    fn default() -> Self {
        Self {
            registration: RegistrationMode::Closed,
            registration_token: None,
            registration_shared_secret: None,
            allow_guests: false,
            password_min_length: 8,
            password_hashing_threads: 0,
            password_hashing_queue: 64,
            refreshable_token_lifetime_seconds: 3_600,
            refresh_token_lifetime_seconds: 0,
            session_cache_entries: 20_000,
            presence: true,
            search_all_local_users: true,
        }
    }
}
