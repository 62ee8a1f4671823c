//! Client-Server API §`GET /_matrix/client/versions`.

use serde_json::json;

use crate::json::{Answer, answer};

const VERSIONS: [&str; 20] = [
    "r0.6.1", "v1.1", "v1.2", "v1.3", "v1.4", "v1.5", "v1.6", "v1.7", "v1.8", "v1.9", "v1.10", "v1.11", "v1.12",
    "v1.13", "v1.14", "v1.15", "v1.16", "v1.17", "v1.18", "v1.19",
];

/// `GET /_matrix/client/versions`.
pub(crate) async fn get_versions() -> Answer {
    answer(&json!({
        "versions": VERSIONS,
        "unstable_features": {
            // Lists, rooms and extensions of sliding sync.
            "org.matrix.simplified_msc3575": true,
            // Room summaries under their old path.
            "im.nheko.summary": true,
            // Extensible profiles, under their stable paths only.
            "uk.tcpip.msc4133.stable": true,
            // Cross-signing keys without authentication at first upload.
            "org.matrix.msc3967": true,
            // Authenticated media.
            "org.matrix.msc3916.stable": true,
            "org.matrix.e2e_cross_signing": true,
        },
    }))
}
