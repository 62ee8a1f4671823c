//! What a running server tells self-tests of its calls, through the control socket.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sfu::{Grant, Sfu};
use turn::Turn;

/// For how long the credentials of a self-test are good.
const LIFETIME: Duration = Duration::from_secs(300);
/// Whose they are, in quotas and logs.
const TESTER: &str = "self-test";

/// What a self-test needs to know.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct CallsStatus {
    /// Of the media server, if it runs.
    pub media: Option<MediaStatus>,
    /// Of the TURN server, if it runs.
    pub relay: Option<RelayStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MediaStatus {
    /// The addresses that clients are told: `udp` or `tcp`, and where.
    pub addresses: Vec<(String, SocketAddr)>,
    /// The STUN user name that the media ports answer.
    pub probe: String,
    /// A token that is signed well and lets nobody in: whoever tells it from a forged one is this server.
    pub token: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RelayStatus {
    pub username: String,
    pub password: String,
    /// As clients are told.
    pub uris: Vec<String>,
    /// The relay ports in use.
    pub ports: Vec<u16>,
}

/// What carries calls, as far as it is asked for its status.
#[derive(Clone)]
pub(crate) struct StatusSource {
    pub sfu: Option<Sfu>,
    pub turn: Option<Turn>,
}

impl StatusSource {
    /// The status, as JSON.
    pub(crate) async fn status(&self) -> String {
        let media = self.sfu.as_ref().map(|sfu| MediaStatus {
            addresses: sfu.media_addresses().into_iter().map(|(kind, at)| (kind.to_owned(), at)).collect(),
            probe: sfu.self_test_username(),
            token: sfu.token(&tester()),
        });
        let relay = match &self.turn {
            None => None,
            Some(turn) => {
                let turn::Credentials { username, password, uris, .. } = turn.credentials(TESTER, LIFETIME);
                let ports = turn.overview().await.iter().map(|allocation| allocation.relay.port()).collect();
                Some(RelayStatus { username, password, uris, ports })
            }
        };
        // A struct of texts and numbers is always written.
        serde_json::to_string(&CallsStatus { media, relay }).unwrap_or_default()
    }
}

impl std::fmt::Debug for StatusSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StatusSource").finish_non_exhaustive()
    }
}

fn tester() -> Grant {
    Grant {
        room: TESTER.to_owned(),
        identity: TESTER.to_owned(),
        name: String::new(),
        can_publish: false,
        can_subscribe: false,
        may_create: false,
        lifetime: LIFETIME,
    }
}
