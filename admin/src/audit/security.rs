//! What users do with their own accounts, on record.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use users::{SecurityEvent, SecurityEventKind, SecurityLog};

use super::log::NewRecord;
use super::row::Ending;
use crate::admin::Admin;
use crate::caller::{Actor, Caller, Face};

/// How many events can wait to be written. What comes while so many wait is counted in the log only.
const WAITING: usize = 4096;

/// Passes events on to the task that writes them.
struct Recorder(mpsc::Sender<SecurityEvent>);

impl SecurityLog for Recorder {
    fn note(&self, event: SecurityEvent) {
        if self.0.try_send(event).is_err() {
            tracing::warn!("an event of an account's security is not on record: too many at once");
        }
    }
}

/// Writes what is told of accounts' security, until the shutdown.
pub(crate) fn start_recording(admin: &Admin) {
    let (sender, mut events) = mpsc::channel(WAITING);
    admin.users().set_security_log(Arc::new(Recorder(sender)));
    let (admin, shutdown) = (admin.clone(), admin.tasks().shutdown_token());
    admin.clone().tasks().spawn("security record", async move {
        while let Some(Some(event)) = shutdown.run_until_cancelled(events.recv()).await {
            record(&admin, event).await;
        }
        // What has been told already.
        while let Ok(event) = events.try_recv() {
            record(&admin, event).await;
        }
    });
}

async fn record(admin: &Admin, event: SecurityEvent) {
    let SecurityEvent { user_id, at_ms, address, kind } = event;
    let address = address.map(|address| address.to_string());
    let (operation, ending, arguments) = match kind {
        SecurityEventKind::LoggedIn(device) => ("account login", Ending::Done, json!({"device": device})),
        SecurityEventKind::LoginFailed => ("account login", Ending::Refused, json!({})),
        SecurityEventKind::PasswordChanged => ("account password", Ending::Done, json!({})),
        SecurityEventKind::SignedOut(devices) => ("account logout", Ending::Done, json!({"devices": devices})),
        SecurityEventKind::SignedOutEverywhere => ("account logout", Ending::Done, json!({"devices": "all"})),
        SecurityEventKind::RegisteredBySecret { is_admin } => {
            ("account register", Ending::Done, json!({"by": "shared secret", "admin": is_admin}))
        }
        SecurityEventKind::SecretRegistrationFailed => {
            ("account register", Ending::Refused, json!({"by": "shared secret"}))
        }
        SecurityEventKind::SpamRefused(rule) => ("account spam", Ending::Refused, json!({"rule": rule.as_str()})),
        SecurityEventKind::Deactivated(erase) => ("account deactivate", Ending::Done, json!({"erase": erase})),
    };
    let mut arguments: Value = arguments;
    arguments["user"] = user_id.as_str().into();
    if let Some(address) = address {
        arguments["address"] = address.into();
    }
    let caller = Caller::new(Actor::Account(user_id), Face::Client);
    let record = NewRecord { caller: &caller, operation, arguments: &arguments };
    if let Err(error) = admin.audit().note_at(at_ms, record, ending, None).await {
        tracing::error!(operation, %error, "an event of an account's security is not on record");
    }
}
