//! Policy servers: which server a room uses as one, and what counts as its recommendation of an event (Server-Server
//! API §Policy Servers). Whether that server is in the room, and what follows, the caller decides.

use serde_json::{Map, Value};

use crate::{
    canonical::write,
    hash::{insert_signature, redacted_bytes},
    ids::ServerName,
    pdu::{MAX_PDU_BYTES, Pdu, PduError},
    signing::{VerifyError, VerifyKey, find_signature},
    version::RoomVersionRules,
};

#[cfg(test)]
mod tests;

/// The type of the state event that names a room's policy server.
pub const POLICY_EVENT: &str = "m.room.policy";
/// The id of the key with which every policy server signs.
pub const POLICY_KEY_ID: &str = "ed25519:policy_server";

/// Why an event has no valid signature of a policy server.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFailure {
    /// The room names a key that is none (the room).
    #[error("the room names no usable key of its policy server")]
    NoKey,
    /// There is no signature, or it is wrong (whoever sent the event, or the policy server).
    #[error("the policy server's {0}")]
    Signature(#[from] VerifyError),
    /// The event cannot be read, or has no place for one more signature (whoever sent it).
    #[error(transparent)]
    Event(#[from] PduError),
}

/// The policy server that a room names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyServer {
    via: ServerName,
    key: Option<VerifyKey>,
}

impl PolicyServer {
    /// Reads an `m.room.policy` state event. `None` if it is not valid in the words of §Determining if a Policy Server
    /// is enabled: it needs a string `via` and a string `public_keys.ed25519`. A `via` that is no server name is the
    /// same, as such a server can have nobody in the room. A key that is none makes the event no less valid: nothing
    /// can then be signed, and the room takes no event but another `m.room.policy`.
    #[must_use]
    pub fn read(event: &Pdu) -> Option<Self> {
        if is_asked_for(&event.kind, event.state_key.as_deref()) {
            return None;
        }
        let content: Map<String, Value> = event.content().ok()?;
        let via = ServerName::parse(content.get("via")?.as_str()?).ok()?;
        let key = content.get("public_keys")?.get("ed25519")?.as_str()?;
        Some(Self { via, key: VerifyKey::parse(key).ok() })
    }

    /// Its name.
    #[must_use]
    pub fn via(&self) -> &ServerName {
        &self.via
    }

    /// Whether the room names a key with which signatures can be checked. Without it there is nothing to ask for.
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Checks its signature of an event.
    ///
    /// # Errors
    /// See [`PolicyFailure`].
    pub fn verify(&self, event: &Pdu, rules: &RoomVersionRules) -> Result<(), PolicyFailure> {
        let object = event.to_object().map_err(PduError::from)?;
        let signature = find_signature(&object, self.via.as_str(), POLICY_KEY_ID)?;
        self.check(&object, signature, rules)
    }

    /// The event with its signature out of what it answered: `{"server": {"ed25519:policy_server": "…"}}`. Nothing else
    /// of the answer is looked at, and all other signatures of the event stay.
    ///
    /// # Errors
    /// [`PolicyFailure::Signature`] if there is none in it that is valid; [`PduError::TooLarge`] if the event is too
    /// large with it.
    pub fn add_signature(
        &self,
        event: &Pdu,
        answer: &Map<String, Value>,
        rules: &RoomVersionRules,
    ) -> Result<Pdu, PolicyFailure> {
        let mut object = event.to_object().map_err(PduError::from)?;
        let signature = answer.get(self.via.as_str()).and_then(|of_server| of_server.get(POLICY_KEY_ID));
        let signature = signature.and_then(Value::as_str).ok_or(VerifyError::Missing)?;
        self.check(&object, signature, rules)?;
        insert_signature(&mut object, self.via.as_str(), POLICY_KEY_ID, signature.to_owned())
            .map_err(PduError::from)?;
        let json = write(&object);
        if json.len() > MAX_PDU_BYTES {
            return Err(PduError::TooLarge.into());
        }
        Ok(Pdu::from_shared(event.event_id.clone(), json.into())?)
    }

    fn check(
        &self,
        object: &Map<String, Value>,
        signature: &str,
        rules: &RoomVersionRules,
    ) -> Result<(), PolicyFailure> {
        let key = self.key.as_ref().ok_or(PolicyFailure::NoKey)?;
        Ok(key.verify(&redacted_bytes(object, rules), signature)?)
    }
}

/// Whether policy servers are asked for events of this kind: for all but the state event that names one, so that a room
/// can always get rid of it.
#[must_use]
pub fn is_asked_for(kind: &str, state_key: Option<&str>) -> bool {
    kind != POLICY_EVENT || state_key != Some("")
}
