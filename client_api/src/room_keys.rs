//! Client-Server API §"Server-side key backups": versions.

use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use users::{BackupVersion, Users};

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer, answer_empty};

/// Versions are numbers; what is no number names no version.
pub(crate) fn parse_version(version: &str) -> Result<u64, ApiError> {
    version.parse().map_err(|_| ApiError::not_found("unknown backup version"))
}

fn describe_version(backup: &BackupVersion) -> Answer {
    answer(&json!({
        "version": backup.version.to_string(),
        "algorithm": backup.algorithm,
        "auth_data": backup.auth_data,
        "count": backup.etag.count,
        "etag": backup.etag.etag.to_string(),
    }))
}

/// `GET /room_keys/version`.
pub(crate) async fn get_current(user: User, State(users): State<Users>) -> Answer {
    let backup = users.current_backup(user.user)?.ok_or_else(|| ApiError::not_found("no current backup version"))?;
    describe_version(&backup)
}

/// `GET /room_keys/version/{version}`.
pub(crate) async fn get_version(user: User, Args(version): Args<String>, State(users): State<Users>) -> Answer {
    describe_version(&users.backup(user.user, parse_version(&version)?)?)
}

#[derive(Deserialize)]
pub(crate) struct VersionBody {
    algorithm: String,
    auth_data: Box<RawValue>,
    /// Only in updates: must be the version of the path.
    version: Option<String>,
}

/// `POST /room_keys/version`.
pub(crate) async fn create(user: User, State(users): State<Users>, JsonBody(body): JsonBody<VersionBody>) -> Answer {
    let version = users.create_backup(user.user, &body.algorithm, &body.auth_data).await?;
    answer(&json!({"version": version.to_string()}))
}

/// `PUT /room_keys/version/{version}`.
pub(crate) async fn update(
    user: User,
    Args(version): Args<String>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<VersionBody>,
) -> Answer {
    if body.version.is_some_and(|given| given != version) {
        return Err(ApiError::invalid_param("version differs from that of the path"));
    }
    users.update_backup(user.user, parse_version(&version)?, &body.algorithm, &body.auth_data).await?;
    answer_empty()
}

/// `DELETE /room_keys/version/{version}`.
pub(crate) async fn delete(user: User, Args(version): Args<String>, State(users): State<Users>) -> Answer {
    users.delete_backup(user.user, parse_version(&version)?).await?;
    answer_empty()
}
