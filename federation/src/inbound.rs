//! What other servers send: who they are, their transactions, and what becomes of the events in them.
//!
//! A transaction is written down whole before it is acknowledged (`transaction.rs`). Its events wait in a queue of
//! their room (`staging.rs`) until they are checked and the room's writer has judged them (`work.rs`), after the gaps
//! before them were filled (`gap.rs`). EDUs are applied as they come (`edus.rs`).

pub(crate) mod error;
pub(crate) mod origin;

mod body;
mod edus;
#[cfg(test)]
pub(crate) mod fixture;
mod gap;
mod order;
#[cfg(test)]
mod partial_tests;
mod postponed;
mod staging;
mod transaction;
mod work;

use std::sync::Arc;

use axum::Router;
use runtime::{Counter, Metrics};
use storage::KeyspaceInfo;

use crate::{Federation, FederationParts};

pub(crate) use gap::{GapError, StateLimits, fetch_missing_auth, fetch_state_before, take_connected};
#[cfg(feature = "fuzzing")]
pub(crate) use transaction::read_transaction;
pub(crate) use work::{RoomPlace, retry_busy};

/// The keyspaces of this module.
pub(crate) const KEYSPACES: &[KeyspaceInfo] = &[
    postponed::POSTPONED.info(),
    staging::STAGED.info(),
    transaction::ANSWERS.info(),
    transaction::ANSWERS_BY_HOUR.info(),
];

/// What is kept in memory about what other servers send.
#[derive(Debug)]
pub(crate) struct Inbound {
    places: origin::Places,
    under_way: transaction::UnderWay,
    staging: Arc<staging::Staging>,
    postponed: postponed::Postponed,
    parked: edus::ParkedReceipts,
    counters: Counters,
}

/// What is counted.
#[derive(Debug)]
struct Counters {
    transactions: Counter,
    /// Events by what became of them.
    staged: Counter,
    known: Counter,
    refused: Counter,
    invalid: Counter,
    accepted: Counter,
    soft_failed: Counter,
    rejected: Counter,
    dropped: Counter,
    postponed: Counter,
    fetched: Counter,
    edus_applied: Counter,
    edus_refused: Counter,
    edus_unknown: Counter,
}

impl Counters {
    fn new(metrics: &Metrics) -> Counters {
        let pdus = |outcome| {
            let help = "Events of other servers, by what became of them.";
            metrics.counter("conduit_federation_pdus_received_total", help, &[("outcome", outcome)])
        };
        let edus = |outcome| {
            let help = "EDUs of other servers, by what became of them.";
            metrics.counter("conduit_federation_edus_received_total", help, &[("outcome", outcome)])
        };
        let help = "Transactions of other servers.";
        Counters {
            transactions: metrics.counter("conduit_federation_transactions_received_total", help, &[]),
            staged: pdus("staged"),
            known: pdus("known"),
            refused: pdus("refused"),
            invalid: pdus("invalid"),
            accepted: pdus("accepted"),
            soft_failed: pdus("soft_failed"),
            rejected: pdus("rejected"),
            dropped: pdus("dropped"),
            postponed: pdus("postponed"),
            fetched: pdus("fetched"),
            edus_applied: edus("applied"),
            edus_refused: edus("refused"),
            edus_unknown: edus("unknown"),
        }
    }
}

impl Inbound {
    /// Nothing received yet.
    pub fn new(parts: &FederationParts) -> Inbound {
        let staging = Arc::new(staging::Staging::new());
        let gauged = Arc::clone(&staging);
        let help = "Events of other servers that wait to be checked.";
        let read = move || gauged.waiting() as f64;
        parts.metrics.observe_gauge("conduit_federation_staged_events", help, &[], read);
        Inbound {
            places: origin::Places::new(parts.config.max_concurrent_requests),
            under_way: transaction::UnderWay::default(),
            staging,
            postponed: postponed::Postponed::default(),
            parked: edus::ParkedReceipts::default(),
            counters: Counters::new(&parts.metrics),
        }
    }
}

impl Federation {
    /// How many received events wait to be checked: none once all that came in has been dealt with.
    #[must_use]
    pub fn staged_events(&self) -> usize {
        self.inbound.staging.waiting()
    }
}

/// Goes on with the events that were staged before the server started.
pub(crate) fn resume(federation: &Federation) {
    if let Err(error) = federation.resume_staged().and_then(|()| federation.resume_postponed()) {
        tracing::error!(%error, "events that other servers sent before the start cannot be read");
    }
}

/// The endpoint for transactions; it is to be layered with [`origin::hold_place`] as all signed endpoints.
pub(crate) fn router(federation: &Federation) -> Router<Federation> {
    let max = usize::try_from(federation.config.max_transaction.bytes()).unwrap_or(usize::MAX);
    transaction::router(max)
}
