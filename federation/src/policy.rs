//! Asking policy servers to sign events: the implementation of [`rooms::PolicyServers`] (Server-Server API §Asking for
//! a Policy Server signature on an event). What they answer is verified by whoever asks, with the key that the room
//! names.
//!
//! A policy server may be slow or down while all else of its server is well. So its failures do not count for the
//! back-off of that server; it is the questions that nobody waits for that it is spared for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use rooms::{PolicyQuestion, PolicyServers, Remote, RoomError};
use serde_json::{Map, Value};
use spec::ids::ServerName;

use crate::client::{Ask, FederationClient};
use crate::error::RemoteError;

const SIGN: &str = "/_matrix/policy/v1/sign";
/// The answer is a signature.
const MAX_ANSWER: usize = 64 * 1024;

/// How long a policy server that failed is asked only if somebody waits for the answer; longer if it asks for that.
const REST: Duration = Duration::from_secs(60);
/// How long at most, whatever it asks for.
const MAX_REST: Duration = Duration::from_secs(60 * 60);
/// How many that failed are remembered.
const MAX_RESTING: usize = 1000;

/// Asks policy servers; clones share everything.
#[derive(Clone, Debug)]
pub struct PolicyClient {
    client: FederationClient,
    /// Those that failed lately, and until when on the monotonic clock they rest.
    resting: Arc<Mutex<HashMap<ServerName, Duration>>>,
}

impl PolicyClient {
    /// One that asks through this client.
    #[must_use]
    pub fn new(client: FederationClient) -> PolicyClient {
        PolicyClient { client, resting: Arc::default() }
    }

    async fn ask(&self, question: PolicyQuestion<'_>) -> Result<Map<String, Value>, RemoteError> {
        if !question.is_urgent {
            self.check(question.server)?;
        }
        let ask = Ask {
            method: Method::POST,
            body: Some(question.event.json.to_vec()),
            timeout: self.client.policy_timeout(),
            max_bytes: MAX_ANSWER,
            despite_backoff: question.is_urgent,
            // A reverse proxy may hand these requests of ours to a policy server that has our name.
            may_be_self: true,
            records_failure: false,
            ..Ask::get(SIGN.to_owned())
        };
        let answer = self.client.ask_json(question.server, ask).await;
        self.record(question.server, answer.as_ref().err());
        answer
    }

    fn check(&self, server: &ServerName) -> Result<(), RemoteError> {
        let until = self.resting.lock().get(server).copied().unwrap_or_default();
        let left = until.saturating_sub(self.client.clock().monotonic());
        if left.is_zero() {
            return Ok(());
        }
        Err(RemoteError::BackingOff { server: server.clone(), seconds: left.as_secs() })
    }

    /// Notes whether a policy server that was asked is well.
    fn record(&self, server: &ServerName, error: Option<&RemoteError>) {
        let rest = match error {
            // It was not asked.
            Some(RemoteError::BackingOff { .. } | RemoteError::NotAllowed(_)) => return,
            Some(RemoteError::Refused { retry_after: Some(rest), .. })
                if error.is_some_and(RemoteError::is_temporary) =>
            {
                (*rest).clamp(REST, MAX_REST)
            }
            Some(error) if error.is_temporary() => REST,
            Some(_) | None => Duration::ZERO,
        };
        let mut resting = self.resting.lock();
        if rest.is_zero() {
            resting.remove(server);
            return;
        }
        let now = self.client.clock().monotonic();
        if resting.len() >= MAX_RESTING {
            resting.retain(|_, until| *until > now);
        }
        if resting.len() < MAX_RESTING || resting.contains_key(server) {
            resting.insert(server.clone(), now.saturating_add(rest));
        }
    }
}

impl PolicyServers for PolicyClient {
    fn sign<'a>(&'a self, question: PolicyQuestion<'a>) -> Remote<'a, Map<String, Value>> {
        Box::pin(async move {
            let (via, event_id) = (question.server, &question.event.event_id);
            self.ask(question).await.map_err(|error| {
                tracing::debug!(%via, %event_id, %error, "a policy server did not sign an event");
                into_room_error(error)
            })
        })
    }
}

/// What it says is for whoever sent the event, in its own words.
fn into_room_error(error: RemoteError) -> RoomError {
    let server = match error {
        RemoteError::Refused { server, status, errcode, message, retry_after, .. } => {
            let retry_after_ms = retry_after.map(|time| time.min(MAX_REST).as_millis() as u64);
            return RoomError::NotRecommended { server, status: status.as_u16(), errcode, message, retry_after_ms };
        }
        RemoteError::NotAllowed(_) => {
            return RoomError::Refused("nothing is exchanged with the room's policy server");
        }
        RemoteError::Timeout(server) | RemoteError::TooLarge(server) => server,
        RemoteError::BackingOff { server, .. }
        | RemoteError::Unreachable { server, .. }
        | RemoteError::Malformed { server, .. } => server,
    };
    RoomError::RemoteUnavailable(format!("the room's policy server {server}"))
}

#[cfg(test)]
mod tests;
