//! One turn of a pusher: what waits for it is sent, oldest first.

use std::time::Duration;

use runtime::config::Span;
use spec::push::Action;
use users::KeptPusher;

use crate::Push;
use crate::error::PushError;
use crate::gateway::{Delivery, Failure, notify};
use crate::notification::{count_badge, wants_badge, write_badge, write_event};
use crate::rows::{self, BadgeRow, NewRows, Place, PusherKey, QueuedRow};
use crate::table::Turn;

/// How many notifications a pusher is sent in one turn; then the others have theirs.
const MAX_IN_TURN: usize = 20;
/// How often a notification is offered to a gateway that refuses it. Then the next ones have their turn.
const MAX_REFUSALS: u32 = 3;
/// How long a pusher waits when this server itself failed, in milliseconds.
const OWN_FAILURE_MS: u64 = 60 * 1000;

/// What is to be done next for a pusher.
#[derive(Default)]
struct Step {
    /// What is due no more.
    dropped: Vec<Place>,
    /// What is sent; nothing if nothing is left.
    outgoing: Option<Outgoing>,
    /// Whether what is known of its badge is to be forgotten.
    forgets_badge: bool,
}

/// A request.
struct Outgoing {
    /// The notification in it; without one it is for the badge alone.
    place: Option<Place>,
    body: Vec<u8>,
    /// The count in it.
    badge: Option<u64>,
}

/// Ends the turn however the task ends.
struct TurnGuard<'a> {
    push: &'a Push,
    pusher: &'a PusherKey,
    turn: Turn,
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        self.push.table.lock().end_turn(self.pusher, self.turn);
        self.push.wake.notify_one();
    }
}

impl Push {
    /// Sends a pusher what waits for it. Bounded by the time limit of each request; at shutdown it ends at once, and
    /// what was not taken stays queued.
    pub(crate) async fn take_turn(self, pusher: PusherKey) {
        let now_ms = self.clock.now_ms();
        let later = Turn::Failed { now_ms, until_ms: now_ms.saturating_add(OWN_FAILURE_MS) };
        let mut guard = TurnGuard { push: &self, pusher: &pusher, turn: later };
        match self.send_waiting(&pusher).await {
            Ok(turn) => guard.turn = turn,
            Err(error) => tracing::error!(user = pusher.user.0, %error, "a notification could not be prepared"),
        }
    }

    async fn send_waiting(&self, key: &PusherKey) -> Result<Turn, PushError> {
        for _ in 0..MAX_IN_TURN {
            let kept = self.users.pusher(key.user, &key.app_id, &key.pushkey)?;
            let kept = kept.filter(|kept| kept.pusher.is_enabled());
            let Some(kept) = kept else { return self.forget(key).await };
            let url = kept.pusher.data.get("url").and_then(|url| url.as_str()).unwrap_or_default().to_owned();
            let now_ms = self.clock.now_ms();
            if let Some(until_ms) = self.holds.lock().until(&url, now_ms) {
                return Ok(Turn::Failed { now_ms, until_ms });
            }
            let (mark, known) = self.known(key);
            let (push, of) = (self.clone(), key.clone());
            // Counting may look into very many rooms.
            let step = self.tasks.compute("push notification", move || push.plan(&of, &kept)).await??;
            let Some(outgoing) = &step.outgoing else {
                self.finish(key, &step, mark).await?;
                // What was noted before the look has its row by then, or was sent even before it was noted.
                self.table.lock().remove_all(key, &known);
                return Ok(Turn::Done);
            };
            let limit = self.config.request_timeout.duration();
            let delivery = notify(&*self.web, &self.clock, limit, &url, &key.pushkey, outgoing.body.clone()).await;
            match delivery {
                Delivery::Taken => {
                    self.metrics.sent.add(1);
                    self.holds.lock().release(&url);
                    self.finish(key, &step, mark).await?;
                }
                Delivery::Rejected => {
                    self.metrics.rejected.add(1);
                    tracing::info!(user = key.user.0, app_id = key.app_id, "a push gateway knows a pusher no more");
                    self.users.delete_pusher(key.user, &key.app_id, &key.pushkey).await?;
                    return self.forget(key).await;
                }
                Delivery::Failed(failure) => {
                    let refused = outgoing.place.filter(|_| failure.is_refusal);
                    let refused = refused.filter(|place| self.table.lock().refuse(key, *place) >= MAX_REFUSALS);
                    if refused.is_some() {
                        self.metrics.given_up.add(1);
                        let (user, reason) = (key.user.0, &failure.reason);
                        tracing::info!(user, app_id = key.app_id, reason, "a push gateway refuses a notification");
                    }
                    let dropped: Vec<Place> = step.dropped.iter().copied().chain(refused).collect();
                    self.drop_queued(key, &dropped).await?;
                    return Ok(self.note_failure(key, &url, &failure));
                }
            }
        }
        Ok(Turn::Done)
    }

    /// What is known in memory to wait for a pusher: the mark of its badge, and its notifications.
    fn known(&self, key: &PusherKey) -> (u64, Vec<Place>) {
        let table = self.table.lock();
        (table.badge_mark(key), table.places(key))
    }

    /// Looks what is to be sent next. Reads only.
    fn plan(&self, key: &PusherKey, kept: &KeptPusher) -> Result<Step, PushError> {
        let mut step = Step::default();
        let wants_badge = wants_badge(kept);
        let count = || count_badge(&self.rooms, &self.users, key.user, self.config.badge);
        for row in rows::waiting(&self.store, key) {
            let (place, row) = row?;
            match self.due_event(key, place, &row)? {
                None => step.dropped.push(place),
                Some((event, actions)) => {
                    let badge = wants_badge.then(count).transpose()?;
                    let body = write_event(&self.rooms, (key.user, kept), &event, &actions, badge)?;
                    step.outgoing = Some(Outgoing { place: Some(place), body, badge });
                    return Ok(step);
                }
            }
        }
        let badge_row = rows::read_badge(&self.store, key)?;
        // A gateway that fails for so long has forgotten the badge, or the device is gone.
        let has_failed_long = self.is_expired(self.table.lock().failing_since(key));
        step.forgets_badge = !wants_badge || has_failed_long;
        if badge_row.is_due && !step.forgets_badge {
            let badge = count()?;
            if badge != badge_row.shown {
                step.outgoing = Some(Outgoing { place: None, body: write_badge(kept, badge), badge: Some(badge) });
            }
        }
        Ok(step)
    }

    /// The event of a notification, unless it is due no more.
    fn due_event(
        &self,
        key: &PusherKey,
        place: Place,
        row: &QueuedRow,
    ) -> Result<Option<(rooms::Event, Vec<Action>)>, PushError> {
        if self.is_expired(Some(row.at_ms)) {
            self.metrics.given_up.add(1);
            return Ok(None);
        }
        let Some(event) = self.rooms.find_event_at(row.room, place.1)? else { return Ok(None) };
        if self.users.is_settled(&event, key.user)? {
            return Ok(None);
        }
        let actions = serde_json::from_str(&row.actions);
        let actions = actions.map_err(|_| PushError::Inconsistent("queued actions are not readable"))?;
        Ok(Some((event, actions)))
    }

    fn is_expired(&self, since_ms: Option<u64>) -> bool {
        let limit_ms = span_ms(self.config.retry_for);
        since_ms.is_some_and(|since| self.clock.now_ms() > since.saturating_add(limit_ms))
    }

    /// Takes what was sent, and what is due no more, off the queue.
    async fn finish(&self, key: &PusherKey, step: &Step, mark: u64) -> Result<(), PushError> {
        let mut rows = NewRows::default();
        let sent = step.outgoing.as_ref().and_then(|outgoing| outgoing.place);
        let done: Vec<Place> = step.dropped.iter().copied().chain(sent).collect();
        for place in &done {
            rows.unqueue(key, *place);
        }
        let _badges = self.badges.read().await;
        let old = rows::read_badge(&self.store, key)?;
        let told = step.outgoing.as_ref().and_then(|outgoing| outgoing.badge);
        // Of a badge that became due meanwhile it is not known whether this one was right.
        let is_settled = self.table.lock().badge_mark(key) == mark;
        let shown = if step.forgets_badge { 0 } else { told.unwrap_or(old.shown) };
        let answers_badge = told.is_some() || step.outgoing.is_none();
        let new = BadgeRow { shown, is_due: old.is_due && !(is_settled && answers_badge) };
        if new != old {
            rows.set_badge(key, new);
        }
        rows.commit(&self.store, None).await?;
        let mut table = self.table.lock();
        table.remove_all(key, &done);
        if answers_badge {
            table.settle_badge(key, mark);
        }
        Ok(())
    }

    async fn drop_queued(&self, key: &PusherKey, dropped: &[Place]) -> Result<(), PushError> {
        let mut rows = NewRows::default();
        for place in dropped {
            rows.unqueue(key, *place);
        }
        rows.commit(&self.store, None).await?;
        self.table.lock().remove_all(key, dropped);
        Ok(())
    }

    /// Deletes what waits for a pusher that is gone, or switched off.
    async fn forget(&self, key: &PusherKey) -> Result<Turn, PushError> {
        let (mark, known) = self.known(key);
        let places = rows::waiting(&self.store, key).map(|row| Ok(row?.0));
        let places = known.into_iter().map(Ok).chain(places).collect::<Result<Vec<Place>, PushError>>()?;
        self.drop_queued(key, &places).await?;
        let mut rows = NewRows::default();
        rows.set_badge(key, BadgeRow::default());
        rows.commit(&self.store, None).await?;
        self.table.lock().settle_badge(key, mark);
        Ok(Turn::Done)
    }

    /// Decides when to try again.
    fn note_failure(&self, key: &PusherKey, url: &str, failure: &Failure) -> Turn {
        self.metrics.failed.add(1);
        let now_ms = self.clock.now_ms();
        let mut failures = self.table.lock().failures(key);
        let mut holds = self.holds.lock();
        if failure.is_whole_gateway {
            failures = failures.max(holds.failures(url));
        }
        let until_ms = now_ms.saturating_add(self.pause_ms(failures, failure.retry_after));
        if failure.is_whole_gateway {
            holds.hold(url, until_ms, now_ms);
        }
        tracing::debug!(user = key.user.0, app_id = key.app_id, reason = failure.reason, "a push gateway failed");
        Turn::Failed { now_ms, until_ms }
    }

    /// Doubled with each failure before, drawn from the upper half, and never shorter than what the gateway asks for.
    fn pause_ms(&self, failures: u32, retry_after: Option<Duration>) -> u64 {
        let (first, longest) = (span_ms(self.config.backoff), span_ms(self.config.max_backoff));
        let full = first.saturating_mul(1 << failures.min(31)).min(longest).max(1);
        let asked = retry_after.map_or(0, |asked| u64::try_from(asked.as_millis()).unwrap_or(u64::MAX));
        (full - self.random.below(full / 2 + 1)).max(asked)
    }
}

pub(crate) fn span_ms(span: Span) -> u64 {
    u64::try_from(span.duration().as_millis()).unwrap_or(u64::MAX)
}
