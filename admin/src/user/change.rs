//! Roles and passwords.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use users::Role;

use crate::admin::Admin;
use crate::administrators::refuse_last_administrator;
use crate::arguments::{Secret, UserArg};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

use super::create::choose_password;
use super::{changeable, check_active, check_may_change};

/// A role, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RoleArg {
    /// May administer the server
    Administrator,
    /// May use the moderating part of the administration
    Moderator,
    /// An ordinary account
    Member,
    /// Somebody who looks in
    Guest,
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Role {
        match role {
            RoleArg::Administrator => Role::Administrator,
            RoleArg::Moderator => Role::Moderator,
            RoleArg::Member => Role::Member,
            RoleArg::Guest => Role::Guest,
        }
    }
}

/// Give an account a role
///
/// What a role may do is configured in `[roles]`. Nobody changes their own role.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetRole {
    /// Whose account
    pub user: UserArg,
    /// The role
    pub role: RoleArg,
}

impl Operation for SetRole {
    const NAME: (&'static str, &'static str) = ("user", "role");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user} moderator";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = self.user.account(admin)?;
        check_active(&account)?;
        set_role(admin, caller, &account, self.role.into()).await?;
        Ok(Outcome::line(format!("{} has the role {} now.", account.user_id, Role::from(self.role).as_str())))
    }
}

/// Set a new password and sign out all devices
///
/// Without a password one is chosen and shown once.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetPassword {
    /// Whose account
    pub user: UserArg,
    /// The new password; `-` asks for it
    #[arg(long)]
    pub password: Option<Secret>,
    /// Leave devices signed in
    #[arg(long)]
    #[serde(default)]
    pub keep_devices: bool,
}

impl Operation for ResetPassword {
    const NAME: (&'static str, &'static str) = ("user", "reset-password");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user} --keep-devices";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = changeable(admin, caller, &self.user)?;
        let (password, shown) = choose_password(admin, self.password.as_ref())?;
        admin.users().set_password(account.user, &password).await?;
        if !self.keep_devices {
            admin.users().delete_all_devices(account.user, None).await?;
        }
        Ok(Outcome::record(vec![("user_id", Cell::text(&account.user_id)), ("password", shown)]))
    }
}

/// Gives an account a role, within what the caller may.
pub(crate) async fn set_role(
    admin: &Admin,
    caller: &Caller,
    account: &users::Account,
    role: Role,
) -> Result<(), AdminError> {
    check_may_change(admin, caller, account)?;
    if role != Role::Administrator && account.is_admin {
        if caller.user().is_some_and(|(user, _)| user == account.user) {
            return Err(AdminError::invalid("you may not demote yourself"));
        }
        refuse_last_administrator(admin, account)?;
    }
    Ok(admin.users().set_role(account.user, role).await?)
}
