//! Checking the signatures of events.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use rooms::{CheckedPdu, Unusable};
use spec::ids::{EventId, ServerName};
use spec::pdu::{ReceivedPdu, SignatureFailure};
use spec::version::RoomVersionRules;

use super::KeyRing;
use super::known::KnownKeys;

/// Up to so many events are checked where they are: handing them over costs more than it spares.
const CHECK_HERE: usize = 4;
/// How many events one piece of work checks, some milliseconds of it.
const PER_TASK: usize = 64;
/// How many keys of one signature's server are looked for; events have one, or two while keys change.
const MAX_KEY_IDS: usize = 16;

/// A signature that is to be checked: one of these keys will do.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) server: ServerName,
    pub(super) key_ids: Vec<String>,
    /// When it was made; `None` if that does not matter.
    pub(super) at_ms: Option<u64>,
}

impl Signed {
    pub(super) fn new(server: ServerName, at_ms: Option<u64>) -> Signed {
        Signed { server, key_ids: Vec::new(), at_ms }
    }

    pub(super) fn add_keys<'a>(&mut self, key_ids: impl Iterator<Item = &'a str>) {
        self.key_ids.extend(key_ids.take(MAX_KEY_IDS).map(str::to_owned));
    }

    /// Whether a known key can check it. Without any signature there is nothing to look for.
    pub(super) fn is_covered_by(&self, known: &KnownKeys) -> bool {
        self.key_ids.is_empty() || self.key_ids.iter().any(|key_id| known.valid_at(key_id, self.at_ms).is_some())
    }
}

type Checked = (EventId, Result<CheckedPdu, Unusable>);
type Keys = HashMap<ServerName, Arc<KnownKeys>>;

impl KeyRing {
    /// Checks hashes and signatures of events, in their order. Missing keys are fetched first, once
    /// for each server, for some minutes at most when there are many. Cancel-safe.
    pub async fn check_pdus(&self, rules: &'static RoomVersionRules, received: Vec<ReceivedPdu>) -> Vec<Checked> {
        self.check_pdus_via(None, rules, received).await
    }

    /// [`KeyRing::check_pdus`], asking `notary` before the other notaries, if the operator trusts it.
    pub async fn check_pdus_via(
        &self,
        notary: Option<&ServerName>,
        rules: &'static RoomVersionRules,
        received: Vec<ReceivedPdu>,
    ) -> Vec<Checked> {
        let keys = Arc::new(self.gather_keys(notary, rules, &received).await);
        if received.len() <= CHECK_HERE {
            return received.into_iter().map(|pdu| check_one(pdu, rules, &keys)).collect();
        }
        let mut rest = received.into_iter();
        let mut work = Vec::new();
        loop {
            let part: Vec<ReceivedPdu> = rest.by_ref().take(PER_TASK).collect();
            if part.is_empty() {
                break;
            }
            work.push(self.check_part(part, rules, keys.clone()));
        }
        join_all(work).await.into_iter().flatten().collect()
    }

    async fn check_part(
        &self,
        part: Vec<ReceivedPdu>,
        rules: &'static RoomVersionRules,
        keys: Arc<Keys>,
    ) -> Vec<Checked> {
        let ids: Vec<EventId> = part.iter().map(|pdu| pdu.event_id().clone()).collect();
        let check = move || part.into_iter().map(|pdu| check_one(pdu, rules, &keys)).collect();
        let checked = self.0.tasks.compute("check signatures", check).await;
        // It did not run to its end: nothing is known of these events, and they are not believed.
        let unchecked = || Unusable::Signature(SignatureFailure::NoKnownKey(self.0.server_name.clone()));
        checked.unwrap_or_else(|_| ids.into_iter().map(|id| (id, Err(unchecked()))).collect())
    }

    /// The keys of all servers that have to have signed, as far as they can be had.
    async fn gather_keys(
        &self,
        notary: Option<&ServerName>,
        rules: &RoomVersionRules,
        received: &[ReceivedPdu],
    ) -> Keys {
        let mut keys = Keys::new();
        let mut missing: Vec<Signed> = Vec::new();
        for pdu in received {
            let at_ms = signed_at(pdu, rules);
            for server in pdu.required_signers(rules) {
                let known = keys.entry(server.clone()).or_insert_with(|| self.known_or_nothing(&server));
                let mut signed = Signed::new(server.clone(), at_ms);
                signed.add_keys(pdu.key_ids(&server));
                if !signed.is_covered_by(known) {
                    missing.push(signed);
                }
            }
        }
        if !missing.is_empty() {
            let servers: Vec<ServerName> = missing.iter().map(|signed| signed.server.clone()).collect();
            self.find_missing(missing, notary).await;
            for server in servers {
                let known = self.known_or_nothing(&server);
                keys.insert(server, known);
            }
        }
        keys
    }
}

fn check_one(pdu: ReceivedPdu, rules: &RoomVersionRules, keys: &Keys) -> Checked {
    let id = pdu.event_id().clone();
    let at_ms = signed_at(&pdu, rules);
    let key = |server: &ServerName, key_id: &str| keys.get(server)?.valid_at(key_id, at_ms).cloned();
    (id, CheckedPdu::check(pdu, rules, key))
}

/// When the event was signed, as far as its room version asks (Room Versions §Signing key validity period).
fn signed_at(pdu: &ReceivedPdu, rules: &RoomVersionRules) -> Option<u64> {
    rules.enforce_key_validity.then(|| u64::try_from(pdu.unverified().origin_server_ts).unwrap_or_default())
}
