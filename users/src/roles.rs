//! What accounts may do by their role: administrator, moderator, member or guest.
//!
//! Rights are about what costs the operator or other people something: making rooms, inviting, reaching other servers,
//! uploading, calling. They are configured for each role and enforced where a client asks for the thing
//! ([`Session::check_may`]); calls also ask for users who come by another way ([`Users::has_right`]).

use rooms::{TOPIC_ADMINS, UserNid};
use serde::{Deserialize, Serialize};
use storage::{Batch, Read, Topic};

use crate::{
    AccountFacts, AccountKind, Session, UserError, Users,
    accounts::{ACCOUNTS, AccountRow},
    config::RolesConfig,
    facts::ACCOUNT_FACTS,
};

/// The part that an account plays on this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May administer the server, and do everything else.
    Administrator,
    /// May use the moderating part of the administration.
    Moderator,
    /// An ordinary account.
    Member,
    /// Somebody who looks in: a guest of the specification, or an account that was given this role.
    Guest,
}

impl Role {
    /// Its name in the configuration and the administration API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Administrator => "administrator",
            Role::Moderator => "moderator",
            Role::Member => "member",
            Role::Guest => "guest",
        }
    }

    /// The role of this name; `admin` is understood, too.
    #[must_use]
    pub fn parse(text: &str) -> Option<Role> {
        match text {
            "administrator" | "admin" => Some(Role::Administrator),
            "moderator" => Some(Role::Moderator),
            "member" => Some(Role::Member),
            "guest" => Some(Role::Guest),
            _ => None,
        }
    }
}

/// Something that not every role may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Making rooms.
    CreateRooms,
    /// Inviting others to rooms.
    Invite,
    /// Being in rooms with users of other servers, and inviting those.
    Federate,
    /// Uploading media.
    Upload,
    /// Taking part in calls.
    Call,
}

impl Right {
    fn refusal(self) -> UserError {
        UserError::Forbidden(match self {
            Right::CreateRooms => "your role on this server may not create rooms",
            Right::Invite => "your role on this server may not invite others",
            Right::Federate => "your role on this server may not be in rooms with other servers",
            Right::Upload => "your role on this server may not upload files",
            Right::Call => "your role on this server may not take part in calls",
        })
    }
}

/// What one role may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    create_rooms: bool,
    invite: bool,
    federate: bool,
    upload: bool,
    call: bool,
}

impl Rights {
    /// What a role may do by the configuration. Administrators may do everything.
    #[must_use]
    pub fn of(role: Role, config: &RolesConfig) -> Rights {
        match role {
            Role::Administrator => {
                Rights { create_rooms: true, invite: true, federate: true, upload: true, call: true }
            }
            Role::Moderator => config.moderator.rights(),
            Role::Member => config.member.rights(),
            Role::Guest => config.guest.rights(),
        }
    }

    /// Whether this is allowed.
    #[must_use]
    pub fn allow(self, right: Right) -> bool {
        match right {
            Right::CreateRooms => self.create_rooms,
            Right::Invite => self.invite,
            Right::Federate => self.federate,
            Right::Upload => self.upload,
            Right::Call => self.call,
        }
    }
}

macro_rules! rights_of_section {
    ($($section:ty),*) => {$(
        impl $section {
            fn rights(&self) -> Rights {
                Rights {
                    create_rooms: self.create_rooms,
                    invite: self.invite,
                    federate: self.federate,
                    upload: self.upload,
                    call: self.call,
                }
            }
        }
    )*};
}
rights_of_section!(crate::config::RoleRights, crate::config::GuestRights);

/// The role that the rows of an account give it.
pub(crate) fn role_of(row: &AccountRow, facts: &AccountFacts) -> Role {
    match facts.role {
        _ if row.is_admin => Role::Administrator,
        _ if row.kind == AccountKind::Guest => Role::Guest,
        Some(role @ (Role::Moderator | Role::Guest)) => role,
        Some(Role::Administrator | Role::Member) | None => Role::Member,
    }
}

impl Session {
    /// Refuses what the caller's role may not do.
    ///
    /// # Errors
    /// `Forbidden`, which says what is not allowed.
    pub fn check_may(&self, right: Right) -> Result<(), UserError> {
        if self.rights.allow(right) { Ok(()) } else { Err(right.refusal()) }
    }
}

impl Users {
    /// The role of an account; `None` where there is no account.
    pub fn role(&self, user: UserNid) -> Result<Option<Role>, UserError> {
        let Some(row) = self.store().get(&ACCOUNTS, &user)? else { return Ok(None) };
        Ok(Some(role_of(&row, &self.facts(user)?)))
    }

    /// Whether an account may do something by its role. Who has no account here may not.
    pub fn has_right(&self, user: UserNid, right: Right) -> Result<bool, UserError> {
        let role = self.role(user)?;
        Ok(role.is_some_and(|role| Rights::of(role, &self.config().roles).allow(right)))
    }

    /// Gives an account a role; its open sessions notice at their next request. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound`, `UserDeactivated`; `InvalidParam` for another role than `guest` for a guest of the specification.
    pub async fn set_role(&self, user: UserNid, role: Role) -> Result<(), UserError> {
        loop {
            let row = self.store().get(&ACCOUNTS, &user)?.ok_or(UserError::NotFound("account"))?;
            if row.is_deactivated {
                return Err(UserError::UserDeactivated);
            }
            if row.kind == AccountKind::Guest && role != Role::Guest {
                return Err(UserError::InvalidParam("an account without a password stays a guest"));
            }
            let stored = self.store().get(&ACCOUNT_FACTS, &user)?;
            let old = stored.clone().unwrap_or_default();
            let facts = AccountFacts {
                role: match role {
                    Role::Administrator | Role::Member => None,
                    role => Some(role),
                },
                ..old.clone()
            };
            let is_admin = role == Role::Administrator;
            if is_admin == row.is_admin && facts == old {
                return Ok(());
            }
            let mut batch = Batch::new();
            batch.expect_equals(&ACCOUNTS, &user, &row);
            batch.put(&ACCOUNTS, &user, &AccountRow { is_admin, ..row.clone() });
            self.put_facts(&mut batch, user, stored.as_ref(), &facts);
            let role_before = role_of(&row, &old);
            if [role_before, role].iter().any(|role| matches!(role, Role::Administrator | Role::Moderator)) {
                batch.touch(Topic::new(TOPIC_ADMINS, 0));
            }
            if self.try_commit_revoking(batch, &self.access_tokens(user)?).await?.is_some() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
