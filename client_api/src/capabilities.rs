//! Client-Server API §"Capabilities negotiation".

use axum::extract::State;
use rooms::Rooms;
use serde_json::{Map, Value, json};
use spec::version::RoomVersion;

use crate::extract::User;
use crate::json::{Answer, answer};

/// `GET /capabilities`.
pub(crate) async fn get_capabilities(user: User, State(rooms): State<Rooms>) -> Answer {
    let named = |version: RoomVersion, stability: &str| (version.as_str().to_owned(), stability.into());
    let stable = RoomVersion::ALL.into_iter().map(|version| named(version, "stable"));
    let unstable = RoomVersion::UNSTABLE.into_iter().map(|version| named(version, "unstable"));
    let available: Map<String, Value> = stable.chain(unstable).collect();
    let delays = json!({
        "max_delay_ms": rooms.max_delay_ms(),
        "max_scheduled": rooms.delay_limits().max_scheduled,
    });
    answer(&json!({
        "capabilities": {
            "m.room_versions": {"default": rooms.default_version().as_str(), "available": available},
            "m.change_password": {"enabled": true},
            "m.set_displayname": {"enabled": true},
            "m.set_avatar_url": {"enabled": true},
            "m.profile_fields": {"enabled": true},
            "m.3pid_changes": {"enabled": false},
            "m.get_login_token": {"enabled": true},
            "m.account_moderation": {"suspend": user.is_admin, "lock": user.is_admin},
            "m.delayed_events": delays,
            "org.matrix.msc4140.delayed_events": delays,
            "m.forget_forced_upon_leave": {"enabled": false},
        },
    }))
}
