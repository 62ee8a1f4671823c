//! The server itself.

use axum::extract::State;
use serde_json::json;

use crate::admin::Admin;
use crate::http::{Answer, SynapseCaller, answer};
use crate::server::Version;

/// `GET /_synapse/admin/v1/server_version`.
pub(super) async fn get_version(State(admin): State<Admin>, SynapseCaller(caller): SynapseCaller) -> Answer {
    let version = admin.perform_operation(&caller, Version {}).await?.to_json();
    let text = |name: &str| version[name].as_str().unwrap_or_default().to_owned();
    answer(&json!({"server_version": format!("{} {}", text("name"), text("version"))}))
}
