//! What can be done with a scheduled event: restart its time, cancel it, send it at once.

use spec::ids::EventId;
use spec::pdu::Pdu;
use spec::policy::is_asked_for;
use storage::{Batch, CommitError, Read, Stamped};

use super::{
    DELAYED_OF_STATE, DELAYED_OF_USER, DelayError, DelayedOutcome, DelayedRow, KEPT_MS, MAX_ENDED, delete_row,
    draft_of, put_row,
};
use crate::append::Append;
use crate::error::RoomError;
use crate::ids::UserNid;
use crate::rooms::Rooms;

/// How often a change is tried again that others were faster than.
const ATTEMPTS: usize = 16;

/// How many rows are taken out with one that ends: a state event may have cancelled many.
const MAX_SURPLUS: usize = 8;

/// The row of an event that has ended.
fn ended(row: &DelayedRow, outcome: DelayedOutcome) -> DelayedRow {
    DelayedRow { due_ms: outcome.at_ms().saturating_add(KEPT_MS), outcome: Some(outcome), ..row.clone() }
}

impl Rooms {
    /// Lets the time of a scheduled event begin again. Cancel-safe.
    ///
    /// # Errors
    /// [`DelayError::NotFound`], [`DelayError::Ended`].
    pub async fn restart_delayed(&self, id: &str) -> Result<(), DelayError> {
        let now = self.clock.now_ms();
        self.change_scheduled(id, |row| DelayedRow {
            since_ms: now,
            due_ms: now.saturating_add(row.delay_ms),
            ..row.clone()
        })
        .await
    }

    /// Cancels a scheduled event; one that was cancelled, or could not be sent, stays so. Cancel-safe.
    ///
    /// # Errors
    /// [`DelayError::NotFound`]; [`DelayError::Ended`] if it has been sent.
    pub async fn cancel_delayed(&self, id: &str) -> Result<(), DelayError> {
        let at_ms = self.clock.now_ms();
        let cancelled = self.change_scheduled(id, |row| ended(row, DelayedOutcome::Cancelled { at_ms })).await;
        match cancelled {
            Err(DelayError::Ended) => match self.delayed_row(id)?.and_then(|row| row.value.outcome) {
                Some(DelayedOutcome::Sent { .. }) => Err(DelayError::Ended),
                _ => Ok(()),
            },
            other => other,
        }
    }

    /// Cancels all that a user has scheduled. Cancel-safe: the rest stays as it is.
    ///
    /// # Errors
    /// Storage errors only.
    pub async fn cancel_all_delayed(&self, owner: UserNid) -> Result<(), DelayError> {
        for event in self.delayed_events(owner)? {
            match self.cancel_delayed(&event.id).await {
                // Sent in this moment, or gone.
                Ok(()) | Err(DelayError::Ended | DelayError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends a scheduled event now and returns its id; of one that has been sent, the id that it got. If the room
    /// refuses it, it stays scheduled. Cancel-safe: once submitted it is sent.
    ///
    /// # Errors
    /// [`DelayError::NotFound`]; [`DelayError::Ended`] if it was cancelled; what the room refuses it with.
    pub async fn send_delayed(&self, id: &str) -> Result<String, DelayError> {
        self.send_scheduled(id, None).await?.ok_or(DelayError::Ended)
    }

    /// As [`Rooms::send_delayed`]; if its time does not run since `since_ms` any more, because it was restarted, nothing
    /// is sent.
    pub(super) async fn send_scheduled(&self, id: &str, since_ms: Option<u64>) -> Result<Option<String>, DelayError> {
        for _ in 0..ATTEMPTS {
            let old = self.delayed_row(id)?.ok_or(DelayError::NotFound)?;
            match &old.value.outcome {
                None => {}
                Some(DelayedOutcome::Sent { event_id, .. }) => return Ok(Some(event_id.to_string())),
                Some(DelayedOutcome::Cancelled { .. } | DelayedOutcome::Failed { .. }) => {
                    return Err(DelayError::Ended);
                }
            }
            if since_ms.is_some_and(|since_ms| since_ms != old.value.since_ms) {
                return Ok(None);
            }
            match self.append_delayed(id, old).await {
                Err(RoomError::Commit(CommitError::Expectation { .. })) => {}
                sent => return Ok(Some(sent?.as_str().to_owned())),
            }
        }
        Err(RoomError::Busy.into())
    }

    /// The event, and that it was sent, in one commit; before, its recommendation where the room wants one.
    async fn append_delayed(&self, id: &str, old: Stamped<DelayedRow>) -> Result<EventId, RoomError> {
        let draft = draft_of(self, id, &old.value)?;
        self.expect_resident(old.value.room)?;
        let (id, at_ms) = (id.to_owned(), self.clock.now_ms());
        let (room, surplus) = (old.value.room, self.surplus_of(&old.value)?);
        let asks = self.policy_server(room)?.is_some() && is_asked_for(&draft.kind, draft.state_key.as_deref());
        let signed = if asks { Some(self.sign_aside(room, vec![draft.clone()], None).await?) } else { None };
        self.submit_job(room, move |append| {
            let sent = match signed {
                Some(signed) => append.adopt(signed, None)?,
                None => append.add_command(vec![draft], None)?,
            };
            let sent = sent.into_iter().next();
            let sent = sent.ok_or(RoomError::Inconsistent("a draft made no event"))?;
            append.batch.expect_equals(&super::DELAYED, &id, &old);
            let outcome = DelayedOutcome::Sent { at_ms, event_id: sent.as_str().into() };
            put_row(&mut append.batch, &id, Some(&old), ended(&old.value, outcome));
            for (id, row) in surplus {
                delete_row(&mut append.batch, &id, &row);
            }
            Ok(sent)
        })
        .await
    }

    /// Ends a scheduled event that could not be sent.
    pub(super) async fn fail_delayed(&self, id: &str, forbidden: bool, reason: String) -> Result<(), DelayError> {
        let outcome = DelayedOutcome::Failed { at_ms: self.clock.now_ms(), forbidden, reason: reason.into() };
        self.change_scheduled(id, |row| ended(row, outcome.clone())).await
    }

    /// Replaces the row of a scheduled event, again if somebody else was faster.
    pub(super) async fn change_scheduled(
        &self,
        id: &str,
        change: impl Fn(&DelayedRow) -> DelayedRow,
    ) -> Result<(), DelayError> {
        for _ in 0..ATTEMPTS {
            let old = self.delayed_row(id)?.ok_or(DelayError::NotFound)?;
            if old.value.outcome.is_some() {
                return Err(DelayError::Ended);
            }
            let new = change(&old.value);
            let mut batch = Batch::new();
            batch.expect_equals(&super::DELAYED, &id.to_owned(), &old);
            if new.outcome.is_some() {
                for (id, row) in self.surplus_of(&old.value)? {
                    delete_row(&mut batch, &id, &row);
                }
            }
            put_row(&mut batch, id, Some(&old), new);
            match self.store.commit(batch).await {
                Ok(_) => {
                    self.delays.wake.notify_one();
                    return Ok(());
                }
                Err(CommitError::Expectation { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RoomError::Busy.into())
    }

    /// The oldest of the owner's ended rows that have to go so that there is room for one more.
    fn surplus_of(&self, row: &DelayedRow) -> Result<Vec<(String, Stamped<DelayedRow>)>, RoomError> {
        let keys = self.store.scan(&DELAYED_OF_USER, &(row.owner, true)).keys();
        let ids: Vec<String> = keys.map(|key| key.map(|(_, _, _, id)| id)).collect::<Result<_, _>>()?;
        let surplus = (ids.len() + 1).saturating_sub(MAX_ENDED).min(MAX_SURPLUS);
        let mut rows = Vec::with_capacity(surplus);
        for id in ids.into_iter().take(surplus) {
            if let Some(row) = self.delayed_row(&id)?.filter(|row| row.value.outcome.is_some()) {
                rows.push((id, row));
            }
        }
        Ok(rows)
    }
}

impl Append<'_> {
    /// A new state event cancels what others have scheduled for the same state: who scheduled it did not know of it.
    pub(crate) fn cancel_overtaken(&mut self, pdu: &Pdu) -> Result<(), RoomError> {
        let Some(state_key) = pdu.state_key.as_deref() else { return Ok(()) };
        let prefix = (self.head.room, pdu.kind.to_string(), state_key.to_owned());
        let rooms = self.rooms;
        let ids: Vec<_> = rooms.store.scan(&DELAYED_OF_STATE, &prefix).keys().collect::<Result<_, _>>()?;
        if ids.is_empty() {
            return Ok(());
        }
        let sender = rooms.user_nid(&pdu.sender)?;
        let at_ms = rooms.clock.now_ms();
        for (_, _, _, id) in ids {
            let Some(old) = rooms.delayed_row(&id)? else { continue };
            if old.value.outcome.is_none() && Some(old.value.owner) != sender {
                // Without its content: no state event may be too large to be stored because of what it cancels.
                let row = DelayedRow { content: "{}".into(), ..ended(&old.value, DelayedOutcome::Cancelled { at_ms }) };
                put_row(&mut self.batch, &id, Some(&old), row);
            }
        }
        Ok(())
    }
}
