//! Accounts: listing, making, changing, restricting and closing them.

mod change;
mod close;
mod create;
mod export;
mod import;
mod list;
mod profile;
mod redact;
mod restrict;
mod rooms;
mod sessions;
mod show;
mod spam;

pub(crate) use change::set_role;
pub use change::{ResetPassword, SetRole};
pub use close::{Deactivate, Reactivate};
pub use create::Create;
pub use export::Export;
pub use import::Import;
pub use list::List;
pub(crate) use profile::set_profile;
pub use profile::{SetAvatar, SetDisplayName};
pub use redact::Redact;
pub(crate) use redact::{RedactJob, RedactResult};
pub use restrict::{Approve, Deny, Lock, RateLimit, ShadowBan, Suspend, Unlock, Unsuspend, Validity};
pub use rooms::Rooms;
pub use sessions::{LoginAs, SignOut};
pub use show::Show;
pub use spam::{Exempt, Spam};

use ::users::{Account, Role};

use crate::admin::Admin;
use crate::administrators::refuse_last_administrator;
use crate::arguments::UserArg;
use crate::caller::{Actor, Caller};
use crate::error::AdminError;

/// Refuses to change accounts that are the server's own, and to let moderators change those who stand above them.
///
/// # Errors
/// `Forbidden`.
pub(crate) fn check_may_change(admin: &Admin, caller: &Caller, account: &Account) -> Result<(), AdminError> {
    if admin.users().is_server_user(&account.user_id) {
        return Err(AdminError::forbidden(format!("{} is the server itself", account.user_id)));
    }
    let Actor::User(user, _) = &caller.who else { return Ok(()) };
    let is_above = matches!(admin.users().role(account.user)?, Some(Role::Administrator | Role::Moderator));
    if is_above && *user != account.user && admin.users().role(*user)? != Some(Role::Administrator) {
        return Err(AdminError::forbidden("moderators cannot change administrators and other moderators"));
    }
    Ok(())
}

/// As [`check_may_change`], for what would shut the account out: nobody does that to themself, or to the last
/// administrator.
///
/// # Errors
/// `Forbidden`, `Invalid`.
pub(crate) fn check_may_shut_out(admin: &Admin, caller: &Caller, account: &Account) -> Result<(), AdminError> {
    check_may_change(admin, caller, account)?;
    if caller.user().is_some_and(|(user, _)| user == account.user) {
        return Err(AdminError::invalid("you cannot do this to your own account"));
    }
    refuse_last_administrator(admin, account)
}

/// Refuses deactivated accounts.
///
/// # Errors
/// `Invalid`.
pub(crate) fn check_active(account: &Account) -> Result<(), AdminError> {
    match account.is_deactivated {
        true => Err(AdminError::invalid(format!("the account {} is deactivated", account.user_id))),
        false => Ok(()),
    }
}

/// The account that is meant, which is active and which the caller may change: see [`check_may_change`].
///
/// # Errors
/// `NotFound`, `Invalid`, `Forbidden`.
pub(crate) fn changeable(admin: &Admin, caller: &Caller, user: &UserArg) -> Result<Account, AdminError> {
    let account = user.account(admin)?;
    check_active(&account)?;
    check_may_change(admin, caller, &account)?;
    Ok(account)
}

/// The account that is meant, which is active and which the caller may shut out: see [`check_may_shut_out`].
///
/// # Errors
/// `NotFound`, `Invalid`, `Forbidden`.
pub(crate) fn shut_out(admin: &Admin, caller: &Caller, user: &UserArg) -> Result<Account, AdminError> {
    let account = user.account(admin)?;
    check_active(&account)?;
    check_may_shut_out(admin, caller, &account)?;
    Ok(account)
}
