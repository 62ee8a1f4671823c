//! Accounts.

mod list;
mod modify;
mod redact;
mod restrict;
mod show;

pub(super) use list::{list_v2, list_v3};
pub(super) use modify::put_user;
pub(super) use redact::{get_redact_status, redact_user};
pub(super) use restrict::{
    allow_cross_signing_replacement, deactivate, delete_rate_limit, get_admin, get_rate_limit, lift_shadow_ban, log_in,
    renew, reset_password, set_admin, set_rate_limit, shadow_ban, suspend,
};
pub(super) use show::{
    find_by_address, find_by_external_id, get_account_data, get_experimental_features, get_invite_count,
    get_joined_count, get_joined_rooms, get_memberships, get_pushers, get_user, get_whois, set_experimental_features,
};

use http::StatusCode;
use serde_json::Value;
use spec::ids::UserId;
use users::Account;

use crate::admin::{Action, Admin};
use crate::arguments::UserArg;
use crate::error::AdminError;
use crate::http::Refusal;
use crate::operation::{Effect, Needs};

/// The user id of a path.
///
/// # Errors
/// `M_INVALID_PARAM`.
pub(super) fn parse_user(text: &str) -> Result<UserId, Refusal> {
    UserId::parse(text).map_err(|error| Refusal::invalid_param(format!("{text}: {error}")))
}

/// The account of a path, which may be deactivated.
///
/// # Errors
/// 400 for malformed ids and users of other servers, 404 `M_NOT_FOUND`.
pub(super) fn find_account(admin: &Admin, text: &str) -> Result<Account, Refusal> {
    let user_id = parse_user(text)?;
    if user_id.server_name() != admin.rooms().server_name().as_str() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", "Can only look up local users"));
    }
    let account = admin.users().account_by_id(&user_id)?;
    account.ok_or_else(|| Refusal::not_found("User not found"))
}

/// The account as the argument of an operation.
pub(super) fn argument_of(account: &Account) -> Result<UserArg, AdminError> {
    account.user_id.as_str().parse().map_err(AdminError::Invalid)
}

/// What administrators alone do in this form.
pub(super) fn action(name: &str, effect: Effect, arguments: Value) -> Action {
    Action { name: name.to_owned(), needs: Needs::Administrator, effect, arguments }
}
