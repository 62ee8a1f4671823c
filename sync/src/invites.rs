//! Invitations that a user is not shown: those by users whom they ignore (Client-Server API §Ignoring Users), and those
//! that they have said to ignore (MSC4155).

use std::collections::BTreeSet;
use std::sync::Arc;

use rooms::Event;
use spec::ids::UserId;
use users::{InvitePermission, InviteRules, Session};

use crate::error::SyncError;
use crate::sync::Inner;

/// Whose invitations a user is not shown.
pub(crate) struct HiddenInvites {
    ignored: Arc<BTreeSet<UserId>>,
    rules: Arc<InviteRules>,
}

impl HiddenInvites {
    pub fn new(sync: &Inner, caller: &Session) -> Result<HiddenInvites, SyncError> {
        let ignored = sync.users.ignored_users(caller.user)?;
        Ok(HiddenInvites { ignored, rules: sync.users.invite_rules(caller.user)? })
    }

    /// Whether the user is shown every invitation, so that none need be read to know it.
    pub fn is_trivial(&self) -> bool {
        self.ignored.is_empty() && !self.rules.may_ignore()
    }

    /// Whether the user is not shown an invitation, given by their member event.
    pub fn hides(&self, invite: &Event) -> bool {
        if self.ignored.contains(invite.sender()) {
            return true;
        }
        let judge = |sender: UserId| self.rules.judge(&sender) == InvitePermission::Ignore;
        invite.sender_id().is_some_and(judge)
    }
}
