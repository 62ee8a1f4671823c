//! Devices of accounts.

use clap::Args;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use users::Account;

use crate::admin::Admin;
use crate::arguments::UserArg;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::{Cell, Outcome};
use crate::user::check_may_change;

const COLUMNS: &[&str] = &["device_id", "name", "last_seen", "address", "program"];

/// List the devices of an account
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Whose account
    pub user: UserArg,
}

impl Operation for List {
    const NAME: (&'static str, &'static str) = ("device", "list");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Reads;
    const EXAMPLE: &'static str = "{user}";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let account = self.user.account(admin)?;
        let devices = admin.users().devices(account.user)?;
        let total = devices.len();
        let rows = devices.into_iter().map(|device| {
            vec![
                Cell::text(&device.device_id),
                Cell::or_none(device.display_name, Cell::Text),
                Cell::or_none(device.last_seen_ms, Cell::Time),
                Cell::or_none(device.last_seen_ip, Cell::Text),
                Cell::or_none(device.last_seen_user_agent, Cell::Text),
            ]
        });
        Ok(Outcome::table(COLUMNS, rows.collect()).total(total as u64))
    }
}

/// Rename a device
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// Whose account
    pub user: UserArg,
    /// The device id
    pub device: String,
    /// The new name
    pub name: String,
}

impl Operation for Rename {
    const NAME: (&'static str, &'static str) = ("device", "rename");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{user} {device} Phone";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = self.user.account(admin)?;
        check_may_change(admin, caller, &account)?;
        admin.users().rename_device(account.user, &self.device, Some(&self.name)).await?;
        Ok(Outcome::line(format!("The device {} is called {:?} now.", self.device, self.name)))
    }
}

/// Sign out devices, and delete their keys
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Delete {
    /// Whose account
    pub user: UserArg,
    /// The device ids
    #[arg(required = true)]
    #[serde(default)]
    pub devices: Vec<String>,
}

impl Operation for Delete {
    const NAME: (&'static str, &'static str) = ("device", "delete");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Destroys;
    const EXAMPLE: &'static str = "{user} {device}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let account = self.user.account(admin)?;
        check_may_change(admin, caller, &account)?;
        for device in &self.devices {
            find(admin, &account, device)?;
        }
        for device in &self.devices {
            admin.users().delete_device(account.user, device).await?;
        }
        Ok(Outcome::line(format!("{} devices of {} are deleted.", self.devices.len(), account.user_id)))
    }
}

/// A device of an account.
///
/// # Errors
/// `NotFound`.
pub(crate) fn find(admin: &Admin, account: &Account, device: &str) -> Result<users::Device, AdminError> {
    let found = admin.users().device(account.user, device)?;
    found.ok_or_else(|| AdminError::not_found(format!("{} has no device {device:?}", account.user_id)))
}
