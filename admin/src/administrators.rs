//! Who administers the server.

use clap::Args;
use rooms::Membership;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use users::{Account, AccountKind, Role};

use crate::admin::Admin;
use crate::arguments::UserArg;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};

/// How many accounts are read at a time.
const CHUNK: usize = 500;

/// Show who administers the server
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {}

/// Make somebody an administrator
///
/// They are invited into the admin room.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// Whom
    pub user: UserArg,
}

/// Make an administrator an ordinary member again
///
/// They are removed from the admin room. The last administrator cannot be removed.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remove {
    /// Whom
    pub user: UserArg,
}

/// Whether the account administers the server now.
pub(crate) fn is_administrator(account: &Account) -> bool {
    account.is_admin && !account.is_deactivated && account.kind == AccountKind::User
}

/// Everybody who administers this server, in the order in which their accounts were made. Reads all accounts.
///
/// # Errors
/// Storage errors only.
pub(crate) fn list_administrators(admin: &Admin) -> Result<Vec<Account>, AdminError> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let accounts = admin.users().list_accounts(after, CHUNK)?;
        let Some(last) = accounts.last() else { return Ok(found) };
        after = Some(last.user);
        found.extend(accounts.into_iter().filter(is_administrator));
    }
}

/// Refuses what would leave the server without an administrator who can act.
///
/// # Errors
/// `Forbidden` if the account is the last of them.
pub(crate) fn refuse_last_administrator(admin: &Admin, account: &Account) -> Result<(), AdminError> {
    let others = list_administrators(admin)?;
    let can_act = |other: &Account| !other.is_locked && !other.is_suspended;
    if !is_administrator(account) || others.iter().any(|other| other.user != account.user && can_act(other)) {
        return Ok(());
    }
    let user = &account.user_id;
    Err(AdminError::forbidden(format!("{user} is the last administrator: make somebody else one first")))
}

impl Operation for List {
    const NAME: (&'static str, &'static str) = ("admin", "list");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let room = admin.admin_room()?;
        let mut rows = Vec::new();
        for account in list_administrators(admin)? {
            let membership = match room {
                Some(room) => admin.rooms().membership(room, account.user)?.map(|row| row.membership),
                None => None,
            };
            rows.push(vec![
                Cell::text(&account.user_id),
                Cell::or_none(membership, |membership: Membership| membership.as_str().into()),
                account.is_locked.into(),
                account.is_suspended.into(),
            ]);
        }
        Ok(Outcome::table(&["user", "admin_room", "locked", "suspended"], rows))
    }
}

impl Operation for Add {
    const NAME: (&'static str, &'static str) = ("admin", "add");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let account = self.user.account(admin)?;
        let user = &account.user_id;
        if account.kind != AccountKind::User || admin.users().is_server_user(user) {
            return Err(AdminError::invalid(format!("{user} is not the account of a person")));
        }
        if is_administrator(&account) {
            return Ok(Outcome::line(format!("{user} is an administrator already.")));
        }
        admin.users().set_role(account.user, Role::Administrator).await?;
        Ok(Outcome::line(format!("{user} is an administrator.")))
    }
}

impl Operation for Remove {
    const NAME: (&'static str, &'static str) = ("admin", "remove");
    const NEEDS: Needs = Needs::Administrator;
    // Who takes their own rights away cannot bring them back.
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{user}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let account = self.user.account(admin)?;
        let user = &account.user_id;
        if !is_administrator(&account) {
            return Ok(Outcome::line(format!("{user} is no administrator.")));
        }
        refuse_last_administrator(admin, &account)?;
        admin.users().set_role(account.user, Role::Member).await?;
        Ok(Outcome::line(format!("{user} is no administrator any more.")))
    }
}
