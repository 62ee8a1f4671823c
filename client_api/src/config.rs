//! The settings of the client-server edge.

use runtime::config::{RateLimit, Span};
use serde::{Deserialize, Serialize};
use users::SpamRule;

runtime::config_section! {
    /// What clients are told of this server.
    pub struct ClientApiConfig {
        /// The address under which clients reach this server, as they are told by
        /// `/.well-known/matrix/client`. Without it that document is absent.
        pub public_baseurl: Option<String> = None, example("\"https://matrix.example.org\"");
        /// A page on which users find help with this server, as told by `/.well-known/matrix/support`. That document is
        /// absent unless this or one of the next four is given.
        pub support_page: Option<String> = None, example("\"https://example.org/help\"");
        /// Whom to ask about this server.
        pub admin_matrix_id: Option<String> = None, example("\"@admin:example.org\"");
        /// The e-mail address for questions about this server.
        pub admin_email: Option<String> = None, example("\"admin@example.org\"");
        /// Whom to tell of security problems.
        pub security_matrix_id: Option<String> = None, example("\"@security:example.org\"");
        /// The e-mail address for reports of security problems.
        pub security_email: Option<String> = None, example("\"security@example.org\"");
    }
}

runtime::config_section! {
    /// Limits for each user or, where nobody is logged in, each IP address: on average
    /// `per_second`, and `burst` at once after a pause. Refused requests get `M_LIMIT_EXCEEDED`.
    pub struct RateLimitsConfig {
        /// Whether any limit applies.
        pub enabled: bool = true, reloadable;
        /// Events sent to rooms.
        pub message: RateLimit = RateLimit::new(10.0, 100), reloadable;
        /// Log-ins, for each address and for each account.
        pub login: RateLimit = RateLimit::new(0.2, 10), reloadable;
        /// Attempts to register, for each address.
        pub registration: RateLimit = RateLimit::new(0.1, 5), reloadable;
        /// Joins and knocks.
        pub join: RateLimit = RateLimit::new(0.5, 20), reloadable;
        /// Invites sent.
        pub invite: RateLimit = RateLimit::new(0.5, 30), reloadable;
        /// Rooms made.
        pub create_room: RateLimit = RateLimit::new(0.1, 10), reloadable;
        /// Media uploaded.
        pub media_upload: RateLimit = RateLimit::new(1.0, 20), reloadable;
        /// Previews of URLs asked for: a client that shows older messages asks for many.
        pub url_preview: RateLimit = RateLimit::new(2.0, 50), reloadable;
        /// Searches in the user directory, the room directory and messages.
        pub search: RateLimit = RateLimit::new(2.0, 20), reloadable;
        /// Restarts of delayed events, and what else is done to them: each participant of a call
        /// restarts one every few seconds.
        pub delayed_events: RateLimit = RateLimit::new(10.0, 100), reloadable;
        /// What a client asks for to join or to leave a call: each participant asks once for each
        /// media server of the call, and an office full of them has one address.
        pub calls: RateLimit = RateLimit::new(5.0, 100), reloadable;
        /// Changes of profiles: each is told to everybody who shares a room with the user.
        pub profile: RateLimit = RateLimit::new(1.0, 30), reloadable;
        /// Snapshots of all rooms, or of one to look into it, by the deprecated `/initialSync`:
        /// each holds the whole state of every room that it shows.
        pub initial_sync: RateLimit = RateLimit::new(0.5, 10), reloadable;
        /// Calls of the deprecated `/events`: a client calls it again after each answer.
        pub events: RateLimit = RateLimit::new(5.0, 50), reloadable;
    }
}

/// What is answered to what a rule against spam does not allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpamAction {
    /// `M_LIMIT_EXCEEDED`: clients try again when they are told to.
    #[default]
    Limit,
    /// `M_FORBIDDEN`: clients tell the user.
    Forbid,
}

runtime::config_section! {
    /// Rules against spam, for accounts that somebody registered for themself, while they are new.
    /// They do not hold for administrators, moderators, application services, accounts that an
    /// administrator made, approved or exempted (`user exempt`), and not at all without
    /// `rate_limits`. Each is for an hour on average, and as many at once; 0 means any number.
    pub struct SpamConfig {
        /// How long an account is new; "0s" for no rules.
        pub new_account_age: Span = Span::seconds(24 * 3600), reloadable;
        /// Rooms made or upgraded.
        pub rooms_per_hour: u32 = 20, reloadable;
        /// Invitations sent.
        pub invitations_per_hour: u32 = 60, reloadable;
        /// Different users invited.
        pub invited_users_per_hour: u32 = 30, reloadable;
        /// Joins and knocks.
        pub joins_per_hour: u32 = 60, reloadable;
        /// Messages with links, as far as they are not encrypted. Mentions are no links.
        pub links_per_hour: u32 = 60, reloadable;
        /// Files uploaded.
        pub uploads_per_hour: u32 = 120, reloadable;
        /// What is answered to more: `limit` (wait) or `forbid` (no).
        pub action: SpamAction = SpamAction::Limit, reloadable;
    }
}

impl SpamConfig {
    /// How many in an hour a rule allows; 0: any number.
    #[must_use]
    pub fn per_hour(&self, rule: SpamRule) -> u32 {
        match rule {
            SpamRule::Rooms => self.rooms_per_hour,
            SpamRule::Invitations => self.invitations_per_hour,
            SpamRule::InvitedUsers => self.invited_users_per_hour,
            SpamRule::Joins => self.joins_per_hour,
            SpamRule::Links => self.links_per_hour,
            SpamRule::Uploads => self.uploads_per_hour,
        }
    }
}
