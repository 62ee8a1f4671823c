//! An event on its way in: format checked, hash and signatures still to be verified (Server-Server API §Validating
//! hashes and signatures on received events).

use serde_json::{Map, Value};

use super::{Pdu, PduError, format::check_format};
use crate::{
    canonical::{check_canonical_object, write},
    hash::{content_hash_matches, event_id_from_redacted, redacted_bytes},
    ids::{EventId, ServerName, UserId},
    redact::redact_event,
    signing::{VerifyError, VerifyKey, find_signature, signing_key_ids},
    version::{EventIdFormat, RoomVersionRules},
};

/// Why an event's signatures do not suffice. The event is dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFailure {
    /// A server that has to sign has no signature that a known, valid key could check. Fetching its keys may help.
    #[error("no signature of {0} could be checked")]
    NoKnownKey(ServerName),
    /// A signature is wrong. The event was forged or damaged.
    #[error("signature of {server} with {key_id} is wrong: {error}")]
    Wrong {
        /// The server that should have signed.
        server: ServerName,
        /// The key it claims to have used.
        key_id: Box<str>,
        /// What is wrong.
        error: VerifyError,
    },
}

/// An event in the federation format that passed the format checks. The redacted bytes are computed once and serve the
/// event id and every signature.
#[derive(Clone, Debug)]
pub struct ReceivedPdu {
    object: Map<String, Value>,
    redacted: Vec<u8>,
    pdu: Pdu,
}

impl ReceivedPdu {
    /// Checks format and size by the rules of the room version, drops `unsigned` and computes the event id.
    pub fn check(mut object: Map<String, Value>, rules: &RoomVersionRules) -> Result<Self, PduError> {
        object.remove("unsigned");
        if rules.strict_canonical_json {
            check_canonical_object(&object)?;
        }
        check_format(&object, rules)?;
        let redacted = redacted_bytes(&object, rules);
        let event_id = event_id_from_redacted(&object, &redacted, rules)?;
        let pdu = Pdu::from_checked(event_id, &object)?;
        Ok(Self { object, redacted, pdu })
    }

    /// The event id. Known before anything is verified, so that duplicates cost no signature check.
    pub fn event_id(&self) -> &EventId {
        &self.pdu.event_id
    }

    /// The event as it claims to be. Only for finding keys and deciding whether to go on.
    pub fn unverified(&self) -> &Pdu {
        &self.pdu
    }

    /// The servers that have to sign: the sender's, unless this is a third-party invite; in room versions 1 and 2
    /// that of the event id; for a restricted join that of the user who authorised it.
    ///
    /// A third-party invite whose content hash is wrong goes on redacted, and may then be an invitation like any other:
    /// its sender's server has to sign.
    pub fn required_signers(&self, rules: &RoomVersionRules) -> Vec<ServerName> {
        let mut servers: Vec<&str> = Vec::with_capacity(2);
        let content = self.object.get("content");
        let is_member = &*self.pdu.kind == "m.room.member";
        if !(is_member && is_third_party_invite(content) && content_hash_matches(&self.object)) {
            servers.push(self.pdu.sender.server_name());
        }
        if rules.event_id == EventIdFormat::Given {
            servers.extend(self.pdu.event_id.server_name());
        }
        let authoriser = content.and_then(|content| content.get("join_authorised_via_users_server"));
        let authoriser = authoriser.and_then(Value::as_str).and_then(|user| UserId::parse(user).ok());
        if let Some(authoriser) = authoriser.as_ref().filter(|_| is_member && rules.restricted_join) {
            servers.push(authoriser.server_name());
        }
        servers.dedup();
        servers.into_iter().filter_map(|server| ServerName::parse(server).ok()).collect()
    }

    /// The ids of the keys with which `server` signed.
    pub fn key_ids(&self, server: &ServerName) -> impl Iterator<Item = &str> {
        signing_key_ids(&self.object, server.as_str())
    }

    /// Verifies every required signature. `key` finds a key of a server that was valid at the event's
    /// `origin_server_ts`; signatures by unknown or expired keys are skipped, but each required server needs one
    /// that is known, and all known ones must be right.
    pub fn verify_signatures(
        &self,
        rules: &RoomVersionRules,
        mut key: impl FnMut(&ServerName, &str) -> Option<VerifyKey>,
    ) -> Result<(), SignatureFailure> {
        for server in self.required_signers(rules) {
            let mut verified = false;
            for key_id in self.key_ids(&server) {
                let Some(key) = key(&server, key_id) else { continue };
                let signature = find_signature(&self.object, server.as_str(), key_id);
                let result = signature.and_then(|signature| key.verify(&self.redacted, signature));
                result.map_err(|error| SignatureFailure::Wrong {
                    server: server.clone(),
                    key_id: key_id.into(),
                    error,
                })?;
                verified = true;
            }
            if !verified {
                return Err(SignatureFailure::NoKnownKey(server));
            }
        }
        Ok(())
    }

    /// The event to go on with after its signatures were verified: as received if the content hash matches, else its
    /// redacted copy, which has the same id.
    pub fn into_pdu(self, rules: &RoomVersionRules) -> Result<Pdu, PduError> {
        if content_hash_matches(&self.object) {
            return Ok(self.pdu);
        }
        let redacted = redact_event(&self.object, rules);
        Pdu::from_shared(self.pdu.event_id, write(&redacted).into())
    }

    /// The event whose hash and signatures nobody has verified.
    pub(super) fn into_unverified(self) -> Pdu {
        self.pdu
    }
}

fn is_third_party_invite(content: Option<&Value>) -> bool {
    content.is_some_and(|content| {
        content.get("membership").and_then(Value::as_str) == Some("invite")
            && content.get("third_party_invite").is_some_and(Value::is_object)
    })
}
