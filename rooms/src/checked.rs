//! Events whose hash and signatures were verified, and what a policy server says of them.

use std::sync::Arc;

use spec::ids::ServerName;
use spec::pdu::{Pdu, PduError, ReceivedPdu, SignatureFailure};
use spec::signing::VerifyKey;
use spec::version::RoomVersionRules;

/// An event whose format, hash and signatures are right: checked if it is of another server's, else made so.
#[derive(Clone, Debug)]
pub struct CheckedPdu {
    pub(crate) pdu: Arc<Pdu>,
    pub(crate) advice: Advice,
}

/// What a room's policy server says of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// It was not asked: nothing speaks against the event if the room uses none.
    Unknown,
    /// It has signed the event.
    Recommended,
    /// It would not, or could not be asked.
    NotRecommended,
}

/// Why an event is dropped before anything else is asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It is no event of this room version.
    #[error(transparent)]
    Malformed(#[from] PduError),
    /// A signature is wrong, or cannot be checked.
    #[error(transparent)]
    Signature(#[from] SignatureFailure),
}

impl CheckedPdu {
    /// Verifies hash and signatures; an event whose content hash is wrong goes on redacted.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub fn check(
        received: ReceivedPdu,
        rules: &RoomVersionRules,
        key: impl FnMut(&ServerName, &str) -> Option<VerifyKey>,
    ) -> Result<CheckedPdu, Unusable> {
        received.verify_signatures(rules, key)?;
        Ok(CheckedPdu::of_ours(Arc::new(received.into_pdu(rules)?)))
    }

    /// An event that this server signed itself, or one that another server returned with its signature beside ours and
    /// that was verified so.
    #[must_use]
    pub fn of_ours(pdu: Arc<Pdu>) -> CheckedPdu {
        CheckedPdu { pdu, advice: Advice::Unknown }
    }

    /// The event.
    #[must_use]
    pub fn pdu(&self) -> &Arc<Pdu> {
        &self.pdu
    }

    /// The same with other advice.
    pub(crate) fn advised(self, advice: Advice) -> CheckedPdu {
        CheckedPdu { advice, ..self }
    }

    /// The same with the signature of the room's policy server.
    pub(crate) fn signed(self, pdu: Arc<Pdu>) -> CheckedPdu {
        CheckedPdu { pdu, advice: Advice::Recommended }
    }
}
