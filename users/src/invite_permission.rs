//! From whom a user accepts invitations.
//!
//! Spec: Client-Server API §"Invite permission" (`m.invite_permission_config`, which blocks all invitations), and the
//! finer rules of MSC4155: lists of users and servers, in which `*` and `?` stand for other text. Rules for users win
//! over those for servers; of two of a kind, the one that allows more wins.

use rooms::UserNid;
use serde::Deserialize;
use serde_json::value::RawValue;
use spec::acl::matches_glob;
use spec::ids::UserId;

use crate::{UserError, Users};

const BLOCKING_TYPE: &str = "m.invite_permission_config";
const FILTER_TYPE: &str = "org.matrix.msc4155.invite_permission_config";

/// What becomes of an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvitePermission {
    /// The user sees it.
    Allow,
    /// It is made, but the user is not shown it.
    Ignore,
    /// It is refused, and its sender is told.
    Block,
}

/// The rules of one user.
#[derive(Clone, Debug, Default)]
pub struct InviteRules {
    blocks_all: bool,
    filter: Filter,
}

/// The content of the account data. What is malformed counts as absent.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Filter {
    enabled: bool,
    allowed_users: Vec<String>,
    ignored_users: Vec<String>,
    blocked_users: Vec<String>,
    allowed_servers: Vec<String>,
    ignored_servers: Vec<String>,
    blocked_servers: Vec<String>,
}

impl Default for Filter {
    fn default() -> Self {
        Filter {
            enabled: true,
            allowed_users: Vec::new(),
            ignored_users: Vec::new(),
            blocked_users: Vec::new(),
            allowed_servers: Vec::new(),
            ignored_servers: Vec::new(),
            blocked_servers: Vec::new(),
        }
    }
}

impl InviteRules {
    fn read(blocking: Option<&RawValue>, filter: Option<&RawValue>) -> Self {
        #[derive(Deserialize)]
        struct Blocking<'a> {
            default_action: Option<&'a str>,
        }
        let blocking = blocking.and_then(|content| serde_json::from_str::<Blocking<'_>>(content.get()).ok());
        InviteRules {
            blocks_all: blocking.and_then(|blocking| blocking.default_action) == Some("block"),
            filter: filter.and_then(|content| serde_json::from_str(content.get()).ok()).unwrap_or_default(),
        }
    }

    /// What becomes of an invitation by `sender`.
    #[must_use]
    pub fn judge(&self, sender: &UserId) -> InvitePermission {
        if self.blocks_all {
            return InvitePermission::Block;
        }
        let filter = &self.filter;
        if !filter.enabled {
            return InvitePermission::Allow;
        }
        let (user, server) = (sender.as_str(), sender.server_name());
        let rules = [
            (&filter.allowed_users, user, InvitePermission::Allow),
            (&filter.ignored_users, user, InvitePermission::Ignore),
            (&filter.blocked_users, user, InvitePermission::Block),
            (&filter.allowed_servers, server, InvitePermission::Allow),
            (&filter.ignored_servers, server, InvitePermission::Ignore),
            (&filter.blocked_servers, server, InvitePermission::Block),
        ];
        let applies = |(list, text, _): &(&Vec<String>, &str, _)| list.iter().any(|glob| matches_glob(glob, text));
        rules.into_iter().find(applies).map_or(InvitePermission::Allow, |(_, _, permission)| permission)
    }
}

impl Users {
    /// From whom the user accepts invitations.
    pub fn invite_rules(&self, user: UserNid) -> Result<InviteRules, UserError> {
        let (blocking, filter) = (self.account_data(user, BLOCKING_TYPE)?, self.account_data(user, FILTER_TYPE)?);
        Ok(InviteRules::read(blocking.as_deref(), filter.as_deref()))
    }
}

#[cfg(test)]
mod tests;
