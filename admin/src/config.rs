//! Settings.

use runtime::config::Span;
use spec::ids::UserId;

runtime::config_section! {
    /// Administration.
    pub struct AdminConfig {
        /// Whether there is an admin room: a room made by the server, into which administrators are invited and in
        /// which they write commands (`!admin --help`).
        pub room: bool = true;
        /// The user who makes it and answers: the part of the user id before the colon. It must not be anybody's
        /// account.
        pub localpart: String = "conduit".to_owned();
        /// The display name of that user.
        pub display_name: String = "Conduit".to_owned();
        /// The alias of the room: the part between `#` and the colon. It matters when the room is made.
        pub alias: String = "admins".to_owned();
        /// How long an answer with a secret in it, such as a password that the server chose, stays in the room.
        pub secrets_shown: Span = Span::seconds(600);
        /// Whether users of this server whom a followed policy list names are suspended, or, if they are named for
        /// takedown, locked and their media hidden. Otherwise administrators are told of them. Administrators and
        /// moderators never are, and rules with wildcards are not applied to users of this server.
        pub suspend_listed_users: bool = false;
        /// Whether users of this server are made to leave rooms that a followed policy list bans. The rooms are blocked
        /// in any case, and those that are named for takedown are always left.
        pub empty_listed_rooms: bool = false;
        /// Whether rooms that a followed policy list names for takedown are deleted from this server. It cannot be
        /// undone.
        pub delete_taken_down_rooms: bool = false;
        /// How long the audit log keeps a record. Nothing else takes records out of it.
        pub audit_retention: Span = Span::seconds(2 * 365 * 24 * 3600);
    }
}

impl AdminConfig {
    /// What cannot be: the key with its section, and the reason.
    ///
    /// # Errors
    /// The first one found.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if !UserId::is_valid_new_localpart(&self.localpart) {
            return Err(("admin.localpart", "use a-z, 0-9 and . _ = - / + only".to_owned()));
        }
        if self.alias.is_empty() || self.alias.contains([':', '\0']) {
            return Err(("admin.alias", "an alias is at least one character, and none is a colon".to_owned()));
        }
        Ok(())
    }
}
