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
    /// The name before the colon of the user id, or the whole of it
    pub name: String,
    /// The password; `-` asks for it
    #[arg(long)]
    pub password: Option<Secret>,
    /// The display name
    #[arg(long)]
    pub display_name: Option<String>,
    /// The role; the first account administers the server, and others are members
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
        let (password, shown) = choose_password(admin, self.password.as_ref())?;
        let wanted = Wanted {
            name: &self.name,
            password: Some(&password),
            display_name: self.display_name.as_deref(),
            role: self.role.map(Role::from),
            email: self.email.as_deref(),
        };
        let account = create(admin, &wanted).await?;
        Ok(Outcome::record(vec![("user_id", Cell::text(&account.user_id)), ("password", shown)]))
    }
}

/// The password to set, and what is shown of it: one that was given is not; without one, one is chosen and is.
pub(super) fn choose_password(admin: &Admin, given: Option<&Secret>) -> Result<(String, Cell), AdminError> {
    if let Some(given) = given {
        return Ok((given.reveal()?.to_owned(), Cell::None));
    }
    let chosen = admin.random().token(PASSWORD_CHARS);
    Ok((chosen.clone(), Cell::Secret(chosen)))
}

/// An account that is wanted.
pub(super) struct Wanted<'a> {
    pub(super) name: &'a str,
    pub(super) password: Option<&'a str>,
    pub(super) display_name: Option<&'a str>,
    /// If nothing is said, the first account administers the server, and others are members.
    pub(super) role: Option<Role>,
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
    let user_id = users.parse_local_user(wanted.name)?;
    let new = NewAccount {
        localpart: user_id.localpart(),
        password: wanted.password,
        kind: AccountKind::User,
        admin: match wanted.role {
            Some(Role::Administrator) => AdminRights::Granted,
            Some(_) => AdminRights::Denied,
            // Somebody has to administer the server.
            None => AdminRights::IfFirst,
        },
        registration_token: None,
    };
    let account = users.create_account(new).await?;
    if let Some(role @ (Role::Moderator | Role::Guest)) = wanted.role {
        users.set_role(account.user, role).await?;
    }
    users.set_third_party_ids(account.user, &addresses).await?;
    if let Some(name) = wanted.display_name {
        users.set_profile_field(account.user, "displayname", Some(Value::from(name))).await?;
    }
    Ok(account)
}
