//! What clients are told: where the media server of this homeserver is (MSC4143 §Discovery of RTC transports).

use serde_json::{Map, Value, json};
use users::Session;

use crate::calls::Calls;
use crate::error::CallError;
use crate::ports::TurnCredentials;

/// Where the endpoints for clients of all servers are, below the public address.
const SERVICE: &str = "/_rtc/jwt";
/// Where the media server's signalling is, below the public address.
const SIGNALLING: &str = "/_rtc/sfu";

/// The public addresses of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallAddresses {
    /// What clients get their tokens from (`livekit_service_url`).
    pub service: String,
    /// The media server's signalling, a WebSocket.
    pub media: String,
}

impl CallAddresses {
    /// Those below the public address of this server; `None` for what is no `http` or `https` address.
    #[must_use]
    pub fn below(public_url: &str) -> Option<CallAddresses> {
        let base = public_url.trim_end_matches('/');
        let (scheme, rest) = base.split_once("://")?;
        let socket = match scheme {
            "https" => "wss",
            "http" => "ws",
            _ => return None,
        };
        if rest.is_empty() {
            return None;
        }
        Some(CallAddresses { service: format!("{base}{SERVICE}"), media: format!("{socket}://{rest}{SIGNALLING}") })
    }
}

impl Calls {
    /// Whether calls are switched on, with or without an address to offer.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.config.enabled
    }

    /// Whether calls can be joined here: they are switched on, and it is known where.
    #[must_use]
    pub fn is_offered(&self) -> bool {
        self.media().is_ok()
    }

    /// The transports that clients of this server may publish on: none where no address is known.
    ///
    /// # Errors
    /// [`CallError::Off`] where calls are switched off: then others may offer some.
    pub fn transports(&self) -> Result<Vec<Value>, CallError> {
        if !self.config.enabled {
            return Err(CallError::Off);
        }
        let Ok((_, addresses)) = self.media() else { return Ok(Vec::new()) };
        let mut transport = Map::new();
        transport.insert("type".to_owned(), "livekit".into());
        transport.insert("livekit_service_url".to_owned(), addresses.service.as_str().into());
        if self.config.advertise_url {
            transport.insert("url".to_owned(), addresses.media.as_str().into());
        }
        Ok(vec![Value::Object(transport)])
    }

    /// TURN credentials for calls between two clients; `None` where there is no TURN server.
    #[must_use]
    pub fn turn_credentials(&self, session: &Session) -> Option<TurnCredentials> {
        let turn = self.turn.as_ref()?;
        Some(turn.credentials(session.user_id.as_str(), self.config.turn_lifetime.duration()))
    }
}

impl TurnCredentials {
    /// As clients get them (Client-Server API §`GET /voip/turnServer`).
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({"username": self.username, "password": self.password, "uris": self.uris, "ttl": self.ttl.as_secs()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_the_public_one() {
        let addresses = CallAddresses::below("https://hs.example/sub/").unwrap();
        assert_eq!(addresses.service, "https://hs.example/sub/_rtc/jwt");
        assert_eq!(addresses.media, "wss://hs.example/sub/_rtc/sfu");
        assert_eq!(CallAddresses::below("http://localhost:8008").unwrap().media, "ws://localhost:8008/_rtc/sfu");
        for bad in ["", "hs.example", "ftp://hs.example", "https://", "https:///"] {
            assert_eq!(CallAddresses::below(bad), None, "{bad}");
        }
    }
}
