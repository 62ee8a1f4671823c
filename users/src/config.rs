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

runtime::config_section! {
    /// Accounts, sessions and passwords.
    pub struct UsersSettings {
        /// Whether guests (accounts without a password, for looking around) may be made.
        pub allow_guests: bool = false;
        /// The shortest password, in characters.
        pub password_min_length: usize = 8;
        /// How many passwords are hashed at the same time; 0 means half of the processor cores.
        pub password_hashing_threads: usize = 0;
        /// How many requests may wait for a password hash before further ones are refused.
        pub password_hashing_queue: usize = 64;
        /// Life of an access token that can be refreshed, in seconds. Others do not expire.
        pub refreshable_token_lifetime_seconds: u64 = 3600;
        /// Life of a refresh token, in seconds; 0 means that it does not expire.
        pub refresh_token_lifetime_seconds: u64 = 0;
        /// How many sessions are kept in memory; further ones are read from the store.
        pub session_cache_entries: usize = 20_000;
        /// Whether presence is kept and shown.
        pub presence: bool = true;
        /// Whether the user directory shows every account of this server, or only users with whom
        /// one shares a room.
        pub search_all_local_users: bool = true;
        /// Whether an account that somebody registers has to be approved by an administrator before
        /// it can log in. Accounts that administrators and scripts make need no approval.
        pub registration_approval: bool = false;
        /// After how many days an account expires unless an administrator renews it; 0: never.
        /// What expired is refused, and lost nothing once it is renewed.
        pub account_validity_days: u64 = 0;
    }
}

runtime::config_section! {
    /// What accounts may do, by their role. Administrators may do everything.
    pub struct RolesConfig {}
    sections { moderator: RoleRights, member: RoleRights, guest: GuestRights }
}

runtime::config_section! {
    /// What accounts of this role may do.
    pub struct RoleRights {
        /// Make rooms.
        pub create_rooms: bool = true;
        /// Invite others to rooms.
        pub invite: bool = true;
        /// Be in rooms with users of other servers, and invite those.
        pub federate: bool = true;
        /// Upload media.
        pub upload: bool = true;
        /// Take part in calls.
        pub call: bool = true;
    }
}

runtime::config_section! {
    /// What guests may do, and accounts that were given this role. Guests without a password may not
    /// make rooms, invite or upload in any case.
    pub struct GuestRights {
        /// Make rooms.
        pub create_rooms: bool = false;
        /// Invite others to rooms.
        pub invite: bool = false;
        /// Be in rooms with users of other servers.
        pub federate: bool = true;
        /// Upload media.
        pub upload: bool = false;
        /// Take part in calls.
        pub call: bool = true;
    }
}

/// What [`crate::Users`] is configured by: its sections, and keys of the top level.
#[derive(Clone, Debug, Default)]
pub struct UsersConfig {
    /// The section.
    pub settings: UsersSettings,
    /// The section of the server notices.
    pub server_notices: crate::ServerNoticesConfig,
    /// The localpart of the user that is the server in the admin room; nobody may take it.
    pub admin_localpart: Option<String>,
    /// What the roles may do.
    pub roles: RolesConfig,
    /// Who may create an account.
    pub registration: RegistrationMode,
    /// A registration token that is always valid, any number of times. More tokens can be made at run time.
    pub registration_token: Option<String>,
    /// Secret with which scripts create accounts (HMAC-SHA1 over a nonce).
    pub registration_shared_secret: Option<String>,
}
