//! One turn of a server: a transaction is packed, sent, and taken off the queue (Server-Server API §Transactions).

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use runtime::config::Span;
use serde::Deserialize;
use serde::de::IgnoredAny;
use spec::ids::ServerName;

use super::pack::Transaction;
use super::rows::AckRows;
use super::table::Turn;
use super::{SendError, Sender};
use crate::client::Ask;
use crate::error::RemoteError;

/// A larger transaction is not kept while its server is left alone, but packed again.
const MAX_KEPT_BYTES: usize = 256 * 1024;
/// Nor is one whose server is left alone for longer, in milliseconds.
const MAX_KEPT_MS: u64 = 60 * 1000;
/// The largest answer to a transaction that is read: a line for each PDU.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// After so many refusals in a row a transaction is down to one PDU and one EDU.
const REFUSALS_UNTIL_SINGLE: u32 = 6;
/// How long a server waits for which no other time is known, in milliseconds.
const DEFAULT_WAIT_MS: u64 = 60 * 1000;

/// What a server answers: errors by event.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    pdus: BTreeMap<String, PduOutcome>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum PduOutcome {
    Failed { error: String },
    Fine(IgnoredAny),
}

fn span_ms(span: Span) -> u64 {
    u64::try_from(span.duration().as_millis()).unwrap_or(u64::MAX)
}

/// Ends the turn however the task ends.
struct TurnGuard<'a> {
    sender: &'a Sender,
    server: &'a ServerName,
    turn: Turn,
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        self.sender.table.lock().end_turn(self.server, self.turn);
        self.sender.wake.notify_one();
    }
}

impl Sender {
    /// Sends a server its next transaction. Bounded in time by the client's limits; at shutdown it ends at once, and
    /// what was not acknowledged stays queued.
    pub(super) async fn take_turn(self, server: ServerName) {
        let later = self.clock.now_ms().saturating_add(DEFAULT_WAIT_MS);
        let mut guard = TurnGuard { sender: &self, server: &server, turn: Turn::BackOff(later) };
        match self.send_next(&server).await {
            Ok(turn) => guard.turn = turn,
            Err(error) => tracing::error!(destination = %server, %error, "a transaction could not be prepared"),
        }
    }

    async fn send_next(&self, server: &ServerName) -> Result<Turn, SendError> {
        let now_ms = self.clock.now_ms();
        if !self.destinations.is_allowed(server) {
            return Ok(Turn::BackOff(now_ms.saturating_add(self.max_backoff_ms())));
        }
        if self.destinations.check(server).is_err() {
            let retry_at = self.destinations.retry_at(server);
            return Ok(Turn::BackOff(retry_at.unwrap_or(now_ms.saturating_add(DEFAULT_WAIT_MS)).max(now_ms + 1)));
        }
        let kept = self.table.lock().get(server).and_then(|destination| destination.kept.take());
        let transaction = match kept {
            // After a long time it is decided anew what is worth sending.
            Some(kept) if !self.was_out(server) => kept,
            _ => self.pack(server).inspect_err(|_| self.note_outbox(server))?,
        };
        if transaction.body.is_empty() {
            // What cannot be read would be tried without a pause.
            let is_stuck = transaction.acks.is_empty();
            self.acknowledge(server, &transaction).await?;
            let later = now_ms.saturating_add(DEFAULT_WAIT_MS);
            return Ok(if is_stuck { Turn::BackOff(later) } else { Turn::Done });
        }
        match self.send_transaction(server, &transaction).await {
            Ok(()) => {
                self.metrics.transactions.add(1);
                self.metrics.pdus.add(transaction.pdus as u64);
                self.metrics.edus.add(transaction.edus as u64);
                self.count_delivery(&transaction);
                self.acknowledge(server, &transaction).await?;
                if let Some(destination) = self.table.lock().get(server) {
                    destination.failing_since = None;
                    destination.refusals = 0;
                }
                Ok(Turn::Done)
            }
            Err(error) => self.note_failure(server, transaction, &error).await,
        }
    }

    async fn send_transaction(&self, server: &ServerName, transaction: &Transaction) -> Result<(), RemoteError> {
        let started = self.clock.monotonic();
        let ask = Ask {
            method: Method::PUT,
            body: Some(transaction.body.clone()),
            max_bytes: MAX_ANSWER_BYTES,
            ..Ask::get(format!("/_matrix/federation/v1/send/{}", transaction.id))
        };
        let answer = self.client.ask(server, ask).await?;
        let elapsed = self.clock.monotonic().saturating_sub(started);
        self.metrics.transaction_time.observe_duration(elapsed);
        tracing::debug!(
            destination = %server,
            txn_id = transaction.id,
            pdus = transaction.pdus,
            edus = transaction.edus,
            ?elapsed,
            "transaction sent"
        );
        // It has acknowledged it, whatever else it says.
        if let Ok(answer) = serde_json::from_slice::<Answer>(&answer) {
            for (event_id, outcome) in answer.pdus.into_iter().take(transaction.pdus) {
                if let PduOutcome::Failed { error } = outcome {
                    tracing::debug!(destination = %server, event_id, error, "an event was not taken");
                }
            }
        }
        Ok(())
    }

    /// Counts how long the newest event of ours in each room was on its way. An application service may have dated an
    /// event back, which this cannot tell.
    fn count_delivery(&self, transaction: &Transaction) {
        let now_ms = self.clock.now_ms();
        for (room, done) in &transaction.acks.rooms {
            let Ok(event) = self.rooms.event_at(*room, done.to) else { continue };
            let is_ours = event.sender_id().is_some_and(|user| user.server_name() == self.server_name.as_str());
            let sent_ms = u64::try_from(event.origin_server_ts()).unwrap_or(now_ms);
            if is_ours && event.flags().is_visible() {
                self.metrics.delivery.observe_duration(Duration::from_millis(now_ms.saturating_sub(sent_ms)));
            }
        }
    }

    /// Takes what has arrived off the queue.
    async fn acknowledge(&self, server: &ServerName, transaction: &Transaction) -> Result<(), SendError> {
        let acks = &transaction.acks;
        let mut rows = AckRows::default();
        if let Some(destination) = self.table.lock().get(server) {
            for (room, done) in &acks.rooms {
                if let Some(pending) = destination.rooms.get_mut(room) {
                    rows.settle_room(*room, &mut pending.stretch, *done);
                }
            }
            if let (Some(stretch), Some(done)) = (&mut destination.devices, acks.devices) {
                rows.settle_devices(stretch, done);
            }
        }
        let committed = rows.commit(&self.store, server, acks).await;
        let mut table = self.table.lock();
        let Some(destination) = table.get(server) else { return Ok(committed?) };
        if let Err(error) = committed {
            // The rows may still be there: nothing counts as gone.
            destination.rooms.values_mut().for_each(|pending| pending.stretch.ending = false);
            destination.devices.iter_mut().for_each(|stretch| stretch.ending = false);
            destination.has_outbox = true;
            return Err(error.into());
        }
        destination.rooms.retain(|_, pending| !pending.stretch.ending);
        if destination.devices.is_some_and(|stretch| stretch.ending) {
            destination.devices = None;
        }
        for extra in &acks.extras {
            destination.extras.remove(extra);
        }
        for user in &acks.whole_lists {
            destination.whole_lists.remove(user);
        }
        destination.outbox = destination.outbox.saturating_sub(acks.outbox.len());
        destination.has_outbox |= transaction.outbox_left;
        Ok(())
    }

    /// Something in the outbox is not taken off.
    fn note_outbox(&self, server: &ServerName) {
        if let Some(destination) = self.table.lock().get(server) {
            destination.has_outbox = true;
        }
    }

    /// Decides when to try again, and with what.
    async fn note_failure(
        &self,
        server: &ServerName,
        transaction: Transaction,
        error: &RemoteError,
    ) -> Result<Turn, SendError> {
        let now_ms = self.clock.now_ms();
        self.metrics.failures.add(1);
        tracing::debug!(destination = %server, txn_id = transaction.id, %error, "a transaction was not delivered");
        let refused = match error {
            RemoteError::Refused { status, .. } if !error.is_temporary() => Some(status.as_u16()),
            _ => None,
        };
        let mut is_given_up = false;
        let mut retry_at = self.destinations.retry_at(server).unwrap_or(0);
        if let Some(destination) = self.table.lock().get(server) {
            destination.failing_since.get_or_insert(now_ms);
            destination.has_outbox |= transaction.outbox_left || !transaction.acks.outbox.is_empty();
            if let Some(status) = refused {
                is_given_up = destination.refusals >= REFUSALS_UNTIL_SINGLE && matches!(status, 400 | 413);
                destination.refusals = destination.refusals.saturating_add(1);
                retry_at = retry_at.max(now_ms.saturating_add(self.refusal_wait_ms(destination.refusals)));
            } else {
                // A server that is not reached and not in back-off would be tried without a pause.
                retry_at = retry_at.max(now_ms.saturating_add(span_ms(self.config.backoff)));
                let is_soon = retry_at.saturating_sub(now_ms) <= MAX_KEPT_MS;
                if is_soon && transaction.body.len() <= MAX_KEPT_BYTES && !transaction.acks.is_empty() {
                    destination.kept = Some(transaction.clone());
                }
            }
        }
        if is_given_up {
            let (pdus, edus) = (transaction.pdus, transaction.edus);
            tracing::warn!(destination = %server, %error, pdus, edus, "what the server refuses alone is not sent again");
            self.acknowledge(server, &transaction).await?;
        }
        Ok(Turn::BackOff(retry_at))
    }

    fn refusal_wait_ms(&self, refusals: u32) -> u64 {
        let first = span_ms(self.config.backoff);
        first.saturating_mul(1 << refusals.min(20)).min(self.max_backoff_ms())
    }

    fn max_backoff_ms(&self) -> u64 {
        span_ms(self.config.max_backoff)
    }
}
