//! Asking policy servers to sign events: the implementation of [`rooms::PolicyServers`] (Server-Server API §Asking for a
//! Policy Server signature on an event). What they answer is verified by whoever asks, with the key that the room names.

use http::Method;
use rooms::{PolicyQuestion, PolicyServers, Remote, RoomError};
use serde_json::{Map, Value};

use crate::client::{Ask, FederationClient};
use crate::error::RemoteError;

const SIGN: &str = "/_matrix/policy/v1/sign";
/// The answer is a signature.
const MAX_ANSWER: usize = 64 * 1024;

/// Asks policy servers; clones share everything.
#[derive(Clone, Debug)]
pub struct PolicyClient(FederationClient);

impl PolicyClient {
    /// One that asks through this client.
    #[must_use]
    pub fn new(client: FederationClient) -> PolicyClient {
        PolicyClient(client)
    }

    async fn ask(&self, question: PolicyQuestion<'_>) -> Result<Map<String, Value>, RemoteError> {
        let ask = Ask {
            method: Method::POST,
            body: Some(question.event.json.to_vec()),
            timeout: self.0.policy_timeout(),
            max_bytes: MAX_ANSWER,
            despite_backoff: question.is_urgent,
            // A reverse proxy may hand these requests of ours to a policy server that has our name.
            may_be_self: true,
            ..Ask::get(SIGN.to_owned())
        };
        self.0.ask_json(question.server, ask).await
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
        RemoteError::Refused { server, status, errcode, message, .. } => {
            return RoomError::NotRecommended { server, status: status.as_u16(), errcode, message };
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
