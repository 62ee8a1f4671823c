//! Requests by class of route: few classes, so that there are few series, whatever paths are asked for.

use std::time::Duration;

use http::StatusCode;
use runtime::{Counter, Histogram, Metrics, TIME_BUCKETS};

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum RouteClass {
    /// Classic sync.
    Sync,
    /// Sliding sync.
    SlidingSync,
    /// Sending events, redactions among them.
    Send,
    /// History and single events.
    Messages,
    /// Everything else about a room.
    Rooms,
    /// Log-in, registration, sessions and accounts.
    Account,
    /// Encryption keys, devices and messages to them.
    Keys,
    /// Media that are uploaded.
    MediaUpload,
    /// Media that are downloaded, and thumbnails.
    MediaDownload,
    /// Transactions of other servers.
    FederationSend,
    /// Everything else that other servers ask.
    Federation,
    /// Calls.
    Calls,
    /// Administration.
    Admin,
    /// What clients ask for otherwise.
    Client,
    /// Everything else.
    Other,
}

const CLASSES: [(RouteClass, &str); 15] = [
    (RouteClass::Sync, "sync"),
    (RouteClass::SlidingSync, "sliding_sync"),
    (RouteClass::Send, "send"),
    (RouteClass::Messages, "messages"),
    (RouteClass::Rooms, "rooms"),
    (RouteClass::Account, "account"),
    (RouteClass::Keys, "keys"),
    (RouteClass::MediaUpload, "media_upload"),
    (RouteClass::MediaDownload, "media_download"),
    (RouteClass::FederationSend, "federation_send"),
    (RouteClass::Federation, "federation"),
    (RouteClass::Calls, "calls"),
    (RouteClass::Admin, "admin"),
    (RouteClass::Client, "client"),
    (RouteClass::Other, "other"),
];

/// The class of a path.
pub(crate) fn classify(path: &str) -> RouteClass {
    if path.starts_with("/_synapse/") || path.starts_with("/_conduit/") {
        return RouteClass::Admin;
    }
    if path.starts_with("/_rtc/") {
        return RouteClass::Calls;
    }
    let Some(path) = path.strip_prefix("/_matrix/") else { return RouteClass::Other };
    let mut parts = path.split('/');
    let (api, _version, subject) = (parts.next(), parts.next(), parts.next().unwrap_or_default());
    match api {
        Some("federation" | "key") if subject == "send" => RouteClass::FederationSend,
        Some("federation" | "key") => RouteClass::Federation,
        Some("media") if matches!(subject, "upload" | "create") => RouteClass::MediaUpload,
        Some("media") => RouteClass::MediaDownload,
        Some("client") => classify_client(path, subject, parts.nth(1).unwrap_or_default()),
        _ => RouteClass::Other,
    }
}

/// `subject` is what follows the version, `about` what is asked of the room, if it is one.
fn classify_client(path: &str, subject: &str, about: &str) -> RouteClass {
    match subject {
        "sync" if path.contains("simplified_msc3575") => RouteClass::SlidingSync,
        "sync" => RouteClass::Sync,
        "org.matrix.simplified_msc3575" | "org.matrix.msc4186" => RouteClass::SlidingSync,
        "rooms" => match about {
            "send" | "state" | "redact" => RouteClass::Send,
            "messages" | "context" | "event" | "relations" | "threads" => RouteClass::Messages,
            _ => RouteClass::Rooms,
        },
        "join" | "knock" | "createRoom" | "publicRooms" | "joined_rooms" | "directory" => RouteClass::Rooms,
        "login" | "logout" | "register" | "account" | "refresh" | "auth" => RouteClass::Account,
        "keys" | "devices" | "delete_devices" | "sendToDevice" | "room_keys" => RouteClass::Keys,
        "media" => RouteClass::MediaDownload,
        "admin" => RouteClass::Admin,
        _ if path.contains("/rtc/") => RouteClass::Calls,
        _ => RouteClass::Client,
    }
}

/// The figures of each class.
#[derive(Clone, Debug)]
pub(crate) struct RouteMetrics([ClassMetrics; 15]);

#[derive(Clone, Debug)]
struct ClassMetrics {
    /// By the first digit of the status, from 2 on.
    responses: [Counter; 4],
    durations: Histogram,
}

impl RouteMetrics {
    pub(crate) fn new(metrics: &Metrics) -> RouteMetrics {
        RouteMetrics(CLASSES.map(|(_, name)| ClassMetrics {
            responses: ["2xx", "3xx", "4xx", "5xx"].map(|status| {
                let help = "Answers given, by what they were about.";
                metrics.counter("conduit_http_route_responses_total", help, &[("route", name), ("status", status)])
            }),
            durations: metrics.histogram(
                "conduit_http_route_duration_seconds",
                "Time to answer, by what it was about; with the wait of those that wait for news.",
                TIME_BUCKETS,
                &[("route", name)],
            ),
        }))
    }

    /// Counts an answer.
    pub(crate) fn count(&self, class: RouteClass, status: StatusCode, took: Duration) {
        let Some(figures) = self.0.get(class as usize) else { return };
        if let Some(counter) = figures.responses.get(usize::from(status.as_u16() / 100).wrapping_sub(2)) {
            counter.add(1);
        }
        figures.durations.observe_duration(took);
    }
}
