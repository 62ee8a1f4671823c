//! Client-Server API §`GET /_matrix/client/versions`.

use ::calls::Calls;
use axum::extract::State;
use serde_json::json;

use crate::json::{Answer, answer};

const VERSIONS: [&str; 20] = [
    "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12",
    "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];

/// `GET /_matrix/client/versions`.
pub(crate) async fn get_versions(State(calls): State<Calls>) -> Answer {
    answer(&json!({
        "versions": VERSIONS,
        "unstable_features": {
            // Lists, rooms and extensions of sliding sync.
            "org.matrix.simplified_msc3575": true,
            // Room summaries under their old path.
            "im.nheko.summary": true,
            // Extensible profiles, under their stable paths only.
            "uk.tcpip.msc4133.stable": true,
            // Pushers that are switched on and off, and badges that clients count themselves.
            "org.matrix.msc3881": true,
            "org.matrix.msc4076": true,
            // Cross-signing keys without authentication at first upload.
            "org.matrix.msc3967": true,
            // Delayed events, under their unstable and their stable paths.
            "org.matrix.msc4140": true,
            "org.matrix.msc4140.stable": true,
            // Where the media server of group calls is.
            "org.matrix.msc4143": calls.is_enabled(),
            // Deleting account data.
            "org.matrix.msc3391": true,
            // Filtering by relation types.
            "org.matrix.msc3874": true,
            // Account data of a device, which ends with it.
            "org.matrix.msc3890": true,
            // Filtering invitations.
            "org.matrix.msc4155": true,
            // State at the end of timelines in /sync.
            "org.matrix.msc4222": true,
            // Changed profiles, in sliding sync and in /sync.
            "org.matrix.msc4262": true,
            "org.matrix.msc4429": true,
            // Following threads, and keeping up with it; without the push rules of the proposal.
            "org.matrix.msc4306": true,
            "org.matrix.msc4308": true,
            // Sticky events, in /sync and in sliding sync.
            "org.matrix.msc4354": true,
            // Blocking all invitations.
            "org.matrix.msc4380.stable": true,
            // Authenticated media.
            "org.matrix.msc3916.stable": true,
            "org.matrix.e2e_cross_signing": true,
        },
    }))
}
