//! `PUT /_synapse/admin/v2/users/{user_id}`: making or changing an account, with everything that belongs to it.

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use spec::ids::UserId;
use users::{Account, AccountFlags, AccountKind, AdminRights, ExternalId, NewAccount};

use super::restrict::set_admin_flag;
use super::show::describe;
use super::{action, parse_user};
use crate::Caller;
use crate::admin::Admin;
use crate::error::AdminError;
use crate::http::{Answer, Args, JsonBody, Refusal, SynapseCaller, answer};
use crate::operation::Effect;
use crate::user::{check_may_change, check_may_shut_out, set_profile};

#[derive(Deserialize)]
struct AddressField {
    medium: String,
    address: String,
}

/// What is wanted of the account; what is absent stays as it is.
#[derive(Deserialize)]
pub(in crate::synapse) struct UserBody {
    password: Option<String>,
    logout_devices: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    displayname: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    avatar_url: Option<Option<String>>,
    threepids: Option<Vec<AddressField>>,
    external_ids: Option<Vec<ExternalId>>,
    admin: Option<bool>,
    deactivated: Option<bool>,
    locked: Option<bool>,
    approved: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    user_type: Option<Option<String>>,
}

/// Tells `null` from nothing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

impl UserBody {
    fn addresses(&self) -> Option<Vec<(String, String)>> {
        let fields = self.threepids.as_ref()?;
        Some(fields.iter().map(|field| (field.medium.clone(), field.address.clone())).collect())
    }

    /// What is recorded of it.
    fn arguments(&self, user: &str) -> Value {
        json!({
            "user": user,
            "password": self.password.as_ref().map(|_| "(secret)"),
            "displayname": self.displayname,
            "admin": self.admin,
            "deactivated": self.deactivated,
            "locked": self.locked,
            "approved": self.approved,
            "user_type": self.user_type,
        })
    }

    /// Refuses, before anything is changed, what would be refused in the middle of it.
    fn check(&self, admin: &Admin, account: Option<&Account>) -> Result<(), AdminError> {
        if self.locked == Some(true) && self.deactivated == Some(true) {
            return Err(unknown("An user can't be deactivated and locked"));
        }
        if let Some(password) = &self.password {
            admin.users().check_password_strength(password)?;
        }
        if let Some(addresses) = self.addresses() {
            admin.users().check_third_party_ids(account.map(|account| account.user), &addresses)?;
        }
        for id in self.external_ids.iter().flatten() {
            if let Some(owner) = admin.users().find_by_external_id(id)?
                && account.is_none_or(|account| account.user != owner)
            {
                return Err(AdminError::conflict("External id is already in use."));
            }
        }
        Ok(())
    }
}

fn unknown(message: &str) -> AdminError {
    AdminError::coded(400, "M_UNKNOWN", message)
}

/// `PUT /_synapse/admin/v2/users/{user_id}`: 201 for a new account, 200 for one that was there.
pub(in crate::synapse) async fn put_user(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(user): Args<String>,
    JsonBody(body): JsonBody<UserBody>,
) -> Answer {
    let user_id = parse_user(&user)?;
    if user_id.server_name() != admin.rooms().server_name().as_str() {
        let message = "This endpoint can only be used with local users";
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "M_UNKNOWN", message));
    }
    let found = admin.users().account_by_id(&user_id)?;
    let name = if found.is_some() { "user modify" } else { "user create" };
    let work = async {
        body.check(&admin, found.as_ref())?;
        let account = match &found {
            Some(account) => {
                check_may_change(&admin, &caller, account)?;
                account.clone()
            }
            None => create(&admin, &user_id, &body).await?,
        };
        change(&admin, &caller, &account, &body, found.is_some()).await?;
        describe(&admin, &account)
    };
    let described = admin.audited(&caller, action(name, Effect::Changes, body.arguments(&user)), work).await?;
    let mut response = answer(&described)?;
    if found.is_none() {
        *response.status_mut() = StatusCode::CREATED;
    }
    Ok(response)
}

async fn create(admin: &Admin, user_id: &UserId, body: &UserBody) -> Result<Account, AdminError> {
    let new = NewAccount {
        localpart: user_id.localpart(),
        password: body.password.as_deref(),
        kind: AccountKind::User,
        admin: if body.admin == Some(true) { AdminRights::Granted } else { AdminRights::Denied },
        registration_token: None,
    };
    Ok(admin.users().create_account(new).await?)
}

async fn change(
    admin: &Admin,
    caller: &Caller,
    account: &Account,
    body: &UserBody,
    existed: bool,
) -> Result<(), AdminError> {
    let users = admin.users();
    if body.deactivated == Some(false) && account.is_deactivated {
        let password = body.password.as_deref();
        let password = password.ok_or_else(|| unknown("Must provide a password to re-activate an account."))?;
        users.reactivate(account.user, Some(password)).await?;
    } else if let (true, Some(password)) = (existed, &body.password) {
        users.set_password(account.user, password).await?;
        if body.logout_devices.unwrap_or(true) {
            users.delete_all_devices(account.user, None).await?;
        }
    }
    if let (true, Some(is_admin)) = (existed, body.admin) {
        set_admin_flag(admin, caller, account, is_admin).await?;
    }
    if let Some(locked) = body.locked.filter(|locked| *locked != account.is_locked) {
        if locked {
            check_may_shut_out(admin, caller, account)?;
        }
        let flags = AccountFlags { locked: Some(locked), ..AccountFlags::default() };
        users.set_account_flags(account.user, flags).await?;
    }
    if let Some(name) = &body.displayname {
        set_profile(admin, account, "displayname", name.clone().map(Value::from)).await?;
    }
    if let Some(avatar) = &body.avatar_url {
        set_profile(admin, account, "avatar_url", avatar.clone().map(Value::from)).await?;
    }
    if let Some(addresses) = body.addresses() {
        users.set_third_party_ids(account.user, &addresses).await?;
    }
    if let Some(ids) = &body.external_ids {
        users.set_external_ids(account.user, ids).await?;
    }
    let facts = users
        .change_facts(account.user, |facts| {
            if let Some(kind) = &body.user_type {
                facts.user_type.clone_from(kind);
            }
            facts.awaits_approval |= body.approved == Some(false);
        })
        .await?;
    // Tools send all fields back, also of accounts that need no approval.
    if body.approved == Some(true) && facts.awaits_approval {
        users.approve(account.user).await?;
    }
    if body.deactivated == Some(true) && !account.is_deactivated {
        check_may_shut_out(admin, caller, account)?;
        users.close_account(admin.tasks(), account.user, false).await?;
    }
    Ok(())
}
