//! Making an account.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use users::{Account, AccountKind, AdminRights, NewAccount, Role};

use super::change::RoleArg;
use crate::admin::Admin;
use crate::arguments::Secret;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// The length of passwords that the server chooses.
pub(super) const PASSWORD_CHARS: usize = 20;

/// Make an account
///
/// Without a password one is chosen and shown once.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// The name before the colon of the user id
    pub name: String,
    /// The password; `-` asks for it
    #[arg(long)]
    pub password: Option<Secret>,
    /// The display name
    #[arg(long)]
    pub display_name: Option<String>,
    /// The role
    #[arg(long)]
    pub role: Option<RoleArg>,
    /// An e-mail address
    #[arg(long)]
    pub email: Option<String>,
}

impl Operation for Create {
    const NAME: (&'static str, &'static str) = ("user", "create");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "new-person --role member --display-name Newcomer";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let chosen = admin.random().token(PASSWORD_CHARS);
        let password = self.password.as_ref().map(Secret::reveal).transpose()?;
        let wanted = Wanted {
            name: &self.name,
            password: Some(password.unwrap_or(&chosen)),
            display_name: self.display_name.as_deref(),
            role: self.role.map_or(Role::Member, Role::from),
            email: self.email.as_deref(),
        };
        let account = create(admin, &wanted).await?;
        let shown = if password.is_none() { Cell::Text(chosen) } else { Cell::None };
        Ok(Outcome::record(vec![("user_id", Cell::text(&account.user_id)), ("password", shown)]))
    }
}

/// An account that is wanted.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) password: Option<&'a str>,
    pub(super) display_name: Option<&'a str>,
    pub(super) role: Role,
    pub(super) email: Option<&'a str>,
}

/// Makes an account with all that belongs to it. What can be refused is refused before the account exists.
pub(super) async fn create(admin: &Admin, wanted: &Wanted<'_>) -> Result<Account, AdminError> {
    let users = admin.users();
    let addresses: Vec<(String, String)> =
        wanted.email.map(|email| ("email".to_owned(), email.to_owned())).into_iter().collect();
    users.check_third_party_ids(None, &addresses)?;
    if wanted.display_name.is_some_and(|name| name.len() > super::profile::MAX_DISPLAY_NAME) {
        return Err(AdminError::invalid("the display name is too long"));
    }
    let new = NewAccount {
        localpart: wanted.name,
        password: wanted.password,
        kind: AccountKind::User,
        admin: if wanted.role == Role::Administrator { AdminRights::Granted } else { AdminRights::Denied },
        registration_token: None,
    };
    let mut account = users.create_account(new).await?;
    if matches!(wanted.role, Role::Moderator | Role::Guest) {
        users.set_role(account.user, wanted.role).await?;
    }
    users.set_third_party_ids(account.user, &addresses).await?;
    if let Some(name) = wanted.display_name {
        users.set_profile_field(account.user, "displayname", Some(Value::from(name))).await?;
    }
    account.is_admin = wanted.role == Role::Administrator;
    Ok(account)
}
