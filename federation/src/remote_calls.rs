//! Calls with users and media servers of other homeservers: the implementation of [`calls::RemoteCalls`].

use std::time::Duration;

use calls::{CallAnswer, CallError, Member, OpenIdProof, RemoteCalls, RemoteSeat};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::{ServerName, UserId};

use crate::client::{Ask, FederationClient, encode_path, encode_query};
use crate::error::RemoteError;

/// How long another server may take: somebody waits who wants to join a call.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer, in bytes.
const MAX_ANSWER: usize = 16 * 1024;
/// The longest token that is passed on to a client, in bytes.
const MAX_TOKEN: usize = 8 * 1024;

/// Asks other homeservers about calls; clones share everything.
#[derive(Clone, Debug)]
pub struct CallsClient(FederationClient);

impl CallsClient {
    /// One that asks through this client.
    #[must_use]
    pub fn new(client: FederationClient) -> CallsClient {
        CallsClient(client)
    }

    /// `GET /_matrix/federation/v1/openid/userinfo`.
    async fn find_openid_user(&self, server: &ServerName, proof: &OpenIdProof) -> Result<UserId, CallError> {
        #[derive(Deserialize)]
        struct Answer {
            sub: UserId,
        }
        let mut path = encode_path(&["_matrix", "federation", "v1", "openid", "userinfo"]);
        path.push_str(&encode_query(&[("access_token", &proof.access_token)]));
        let ask = Ask::get(path).within(TIMEOUT).at_most(MAX_ANSWER);
        // Anybody can name any server: its failures are not to be remembered.
        let answer = self.0.ask_stranger(server, ask).await.map_err(explain)?;
        let Answer { sub } = serde_json::from_slice(&answer).map_err(|_| unavailable(server))?;
        Ok(sub)
    }

    /// `POST /_matrix/federation/v1/rtc/livekit/get_token`, as it is called while the proposal is open.
    async fn fetch_token(&self, server: &ServerName, wanted: &RemoteSeat) -> Result<String, CallError> {
        #[derive(Deserialize)]
        struct Answer {
            jwt: String,
        }
        let path = "/_matrix/federation/unstable/io.element.msc4195/rtc/livekit/get_token".to_owned();
        let ask = Ask::post(path, &question(wanted)).within(TIMEOUT).at_most(MAX_ANSWER);
        let answer = self.0.ask_stranger(server, ask).await.map_err(explain)?;
        let Answer { jwt } = serde_json::from_slice(&answer).map_err(|_| unavailable(server))?;
        if jwt.len() > MAX_TOKEN { Err(unavailable(server)) } else { Ok(jwt) }
    }
}

/// The body, with the member in the form in which the client named it.
fn question(wanted: &RemoteSeat) -> Map<String, Value> {
    let RemoteSeat { user, url, seat } = wanted;
    let mut body = Map::new();
    body.insert("user_id".to_owned(), user.as_str().into());
    body.insert("url".to_owned(), url.as_str().into());
    body.insert("room_id".to_owned(), seat.room.as_str().into());
    body.insert("slot_id".to_owned(), seat.slot.as_str().into());
    match &seat.member {
        Member::Id(id) => body.insert("member_id".to_owned(), id.as_str().into()),
        Member::Claimed { id, device } => {
            body.insert("member".to_owned(), json!({"id": id, "claimed_device_id": device}))
        }
        Member::Device(device) => body.insert("member".to_owned(), json!({"claimed_device_id": device})),
    };
    body
}

fn unavailable(server: &ServerName) -> CallError {
    CallError::RemoteUnavailable(server.as_str().to_owned())
}

fn explain(error: RemoteError) -> CallError {
    match error {
        RemoteError::Refused { status, errcode, message, .. } => {
            CallError::RemoteRefused { status: status.as_u16(), errcode, message }
        }
        RemoteError::NotAllowed(server)
        | RemoteError::BackingOff { server, .. }
        | RemoteError::Unreachable { server, .. }
        | RemoteError::Timeout(server)
        | RemoteError::TooLarge(server)
        | RemoteError::Malformed { server, .. } => unavailable(&server),
    }
}

impl RemoteCalls for CallsClient {
    fn openid_user<'a>(&'a self, server: &'a ServerName, proof: &'a OpenIdProof) -> CallAnswer<'a, UserId> {
        Box::pin(self.find_openid_user(server, proof))
    }

    fn token<'a>(&'a self, server: &'a ServerName, wanted: &'a RemoteSeat) -> CallAnswer<'a, String> {
        Box::pin(self.fetch_token(server, wanted))
    }
}

#[cfg(test)]
mod tests;
