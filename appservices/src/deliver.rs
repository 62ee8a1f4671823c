//! Sending transactions, one at a time for each service, until the service has taken them.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use storage::Batch;
use users::AppServiceFailure;

use crate::Dispatcher;
use crate::client::Call;
use crate::error::DispatchError;
use crate::line::Line;
use crate::rows::{self, CursorRow};
use crate::transaction::Transaction;

/// How long a service may take over a transaction.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// The pause after the first failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);
/// How long the delivery waits after the store failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How often the cursor is written although there is nothing to send.
const CURSOR_EVERY: Duration = Duration::from_secs(60);
/// The largest answer to a transaction: nothing in it is read.
const MAX_ANSWER: usize = 64 * 1024;

impl Dispatcher {
    /// Serves one service until it is stopped.
    pub(crate) async fn deliver(self, line: Arc<Line>, row: CursorRow) {
        let mut progress = Progress { is_taken: row.parts == 0, row };
        let stop = line.stop.clone();
        stop.run_until_cancelled(async {
            loop {
                if let Err(error) = self.deliver_all(&line, &mut progress).await {
                    let appservice = line.service.id();
                    tracing::error!(appservice, %error, "a transaction cannot be made; it is tried again");
                    self.clock.sleep(RETRY_AFTER).await;
                    // What was taken off the line for it is there still.
                    if let Err(error) = self.note_waiting_devices(&line, progress.row.devices) {
                        tracing::error!(appservice, %error, "what waits for a service cannot be read");
                    }
                }
            }
        })
        .await;
        if let Err(error) = self.write_last_cursor(&line, &mut progress).await {
            tracing::debug!(appservice = line.service.id(), %error, "the cursor of a service was not written");
        }
    }

    /// Writes the cursor of a delivery that was stopped, so that a restart has less to look at again.
    pub(crate) async fn write_last_cursor(&self, line: &Line, progress: &mut Progress) -> Result<(), DispatchError> {
        // It may have been stopped while it committed a transaction. That is on the disk after this, and stays so: what
        // it took off the queues of devices is nowhere else.
        self.store.commit(Batch::new()).await?;
        if rows::read_cursor(&self.store, line.service.id())?.as_ref() == Some(&progress.row) {
            self.write_cursor(line, progress).await?;
        }
        Ok(())
    }

    async fn deliver_all(&self, line: &Line, progress: &mut Progress) -> Result<(), DispatchError> {
        self.users.ensure_sender(&line.service).await?;
        if !progress.is_taken {
            let row = &progress.row;
            let body = rows::read_outgoing(&self.store, line.service.id(), row)?.ok_or(DispatchError::Damaged)?;
            let transaction = Transaction { id: row.transaction_id(), body: body.into(), events: 0 };
            self.send(line, &transaction).await;
            progress.is_taken = true;
        }
        loop {
            self.catch_up(line).await?;
            if let Some(transaction) = self.next_transaction(line, &mut progress.row).await? {
                progress.is_taken = false;
                self.send(line, &transaction).await;
                progress.is_taken = true;
            } else if progress.row.parts > 0 {
                self.write_cursor(line, progress).await?;
            } else if is_idle(line) {
                // What has come since the line was looked at has left its notice.
                tokio::select! {
                    () = line.news.notified() => {}
                    () = self.clock.sleep(CURSOR_EVERY), if is_ahead(line, &progress.row) => {
                        self.write_cursor(line, progress).await?;
                    }
                }
            }
        }
    }

    /// Writes how far the service is, without the transaction that it has taken.
    async fn write_cursor(&self, line: &Line, progress: &mut Progress) -> Result<(), DispatchError> {
        if !progress.is_taken {
            return Ok(());
        }
        let mut row = progress.row.clone();
        let mut batch = Batch::new();
        rows::delete_outgoing(&mut batch, line.service.id(), &mut row);
        {
            let waiting = line.waiting.lock();
            if waiting.is_live && waiting.events.is_empty() {
                row.place = waiting.upto;
            }
            if waiting.lists.is_empty() {
                row.devices = waiting.lists_upto;
            }
        }
        if row != progress.row {
            rows::put_cursor(&mut batch, line.service.id(), &row);
            self.store.commit(batch).await?;
            progress.row = row;
        }
        Ok(())
    }

    /// Sends a transaction until it is taken.
    async fn send(&self, line: &Line, transaction: &Transaction) {
        let appservice = line.service.id();
        let id = &transaction.id;
        let call = Call {
            method: Method::PUT,
            path: format!("/_matrix/app/v1/transactions/{id}"),
            legacy: Some(format!("/transactions/{id}")),
            body: transaction.body.clone(),
            timeout: TRANSACTION_TIMEOUT,
            max_answer: MAX_ANSWER,
        };
        let mut failures = 0u32;
        loop {
            match self.client.call(&line.service, &call).await {
                // The answer says nothing; that there is one is enough.
                Ok(_) | Err(AppServiceFailure::Malformed) => break,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    self.metrics.failures.add(1);
                    if failures.is_power_of_two() {
                        tracing::warn!(appservice, failures, %error, "an application service does not take a transaction");
                    }
                }
            }
            {
                let mut waiting = line.waiting.lock();
                waiting.is_reachable = false;
                waiting.drop_ephemeral();
            }
            tokio::select! {
                () = self.clock.sleep(self.pause_after(failures)) => {}
                () = line.back.notified() => {}
            }
        }
        if failures > 0 {
            tracing::info!(appservice, failures, "an application service takes transactions again");
        }
        line.waiting.lock().is_reachable = true;
        self.metrics.transactions.add(1);
        self.metrics.events.add(transaction.events);
    }

    /// Drawn from the upper half, so that services that failed together are not tried together.
    fn pause_after(&self, failures: u32) -> Duration {
        let full = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
        let half_ms = u64::try_from(full.as_millis() / 2).unwrap_or(u64::MAX);
        full - Duration::from_millis(self.random.below(half_ms.saturating_add(1)))
    }

    /// A service has shown that it is there: what waits for it is tried at once.
    pub(crate) fn note_back(&self, id: &str) {
        // Kept for a pause that is about to begin.
        if let Some(line) = self.line(id).filter(|line| !line.waiting.lock().is_reachable) {
            line.back.notify_one();
        }
    }
}

/// How far the delivery to a service is.
pub(crate) struct Progress {
    pub row: CursorRow,
    /// Whether the service has the last transaction, so that its body can go.
    pub is_taken: bool,
}

/// Whether nothing waits for a service, and nothing has to be read for it.
fn is_idle(line: &Line) -> bool {
    let waiting = line.waiting.lock();
    waiting.is_live && waiting.events.is_empty()
}

/// Whether what is on the disk is behind.
fn is_ahead(line: &Line, row: &CursorRow) -> bool {
    line.waiting.lock().upto > row.place
}
