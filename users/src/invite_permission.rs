//! From whom a user accepts invitations.
//!
//! Spec: Client-Server API §"Invite permission" (`m.invite_permission_config`, which blocks all invitations), and the
//! finer rules of MSC4155: lists of users and servers, in which `*` and `?` stand for other text. Rules for users win
//! over those for servers; of two of a kind, the one that allows more wins.

use std::sync::Arc;

use rooms::UserNid;
use serde_json::{Map, Value, value::RawValue};
use spec::{ids::UserId, push::glob::Glob};

use crate::{UserError, Users, cache::ReadCache};

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

/// The rules of one user, ready to be applied.
#[derive(Clone, Debug, Default)]
pub struct InviteRules {
    blocks_all: bool,
    allowed: Senders,
    ignored: Senders,
    blocked: Senders,
}

/// Patterns of user ids and of server names.
#[derive(Clone, Debug, Default)]
struct Senders {
    users: Box<[Glob]>,
    servers: Box<[Glob]>,
}

/// The rules of each user, compiled.
pub(crate) struct CompiledInviteRules(ReadCache<UserNid, Arc<InviteRules>>);

impl CompiledInviteRules {
    pub(crate) fn new() -> Self {
        Self(ReadCache::new(10_000))
    }

    pub(crate) fn forget(&self, user: UserNid) {
        self.0.forget(&user);
    }
}

impl InviteRules {
    /// What is malformed counts as absent, each entry for itself: a slip in one list must not let in those whom
    /// another one keeps out.
    fn read(blocking: Option<&RawValue>, filter: Option<&RawValue>) -> Self {
        let parse = |content: Option<&RawValue>| -> Map<String, Value> {
            content.and_then(|content| serde_json::from_str(content.get()).ok()).unwrap_or_default()
        };
        let (blocking, filter) = (parse(blocking), parse(filter));
        let blocks_all = blocking.get("default_action").and_then(Value::as_str) == Some("block");
        if !filter.get("enabled").and_then(Value::as_bool).unwrap_or(true) {
            return InviteRules { blocks_all, ..InviteRules::default() };
        }
        let globs = |list: &str| -> Box<[Glob]> {
            let entries = filter.get(list).and_then(Value::as_array).into_iter().flatten();
            entries.filter_map(Value::as_str).map(Glob::new).collect()
        };
        InviteRules {
            blocks_all,
            allowed: Senders { users: globs("allowed_users"), servers: globs("allowed_servers") },
            ignored: Senders { users: globs("ignored_users"), servers: globs("ignored_servers") },
            blocked: Senders { users: globs("blocked_users"), servers: globs("blocked_servers") },
        }
    }

    /// Whether there may be anybody whose invitations are made but not shown.
    #[must_use]
    pub fn may_ignore(&self) -> bool {
        let Senders { users, servers } = &self.ignored;
        !self.blocks_all && (!users.is_empty() || !servers.is_empty())
    }

    /// What becomes of an invitation by `sender`.
    #[must_use]
    pub fn judge(&self, sender: &UserId) -> InvitePermission {
        if self.blocks_all {
            return InvitePermission::Block;
        }
        let (user, server) = (sender.as_str(), sender.server_name());
        let rules = [
            (&*self.allowed.users, user, InvitePermission::Allow),
            (&*self.ignored.users, user, InvitePermission::Ignore),
            (&*self.blocked.users, user, InvitePermission::Block),
            (&*self.allowed.servers, server, InvitePermission::Allow),
            (&*self.ignored.servers, server, InvitePermission::Ignore),
            (&*self.blocked.servers, server, InvitePermission::Block),
        ];
        let applies = |(list, text, _): &(&[Glob], &str, _)| list.iter().any(|glob| glob.matches(text));
        rules.into_iter().find(applies).map_or(InvitePermission::Allow, |(_, _, permission)| permission)
    }
}

impl Users {
    /// From whom the user accepts invitations. In memory after the first call.
    pub fn invite_rules(&self, user: UserNid) -> Result<Arc<InviteRules>, UserError> {
        self.inner.invite_rules.0.get_or_read(&user, || {
            let (blocking, filter) = (self.account_data(user, BLOCKING_TYPE)?, self.account_data(user, FILTER_TYPE)?);
            Ok(Arc::new(InviteRules::read(blocking.as_deref(), filter.as_deref())))
        })
    }
}

#[cfg(test)]
mod tests;
