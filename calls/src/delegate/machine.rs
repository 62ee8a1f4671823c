//! When a delegated leave event is restarted and when it is sent (MSC4195 §Delegating delayed leave events): the states
//! of one, without anything that waits. All times are in milliseconds since the Unix epoch.

use rooms::UserNid;

/// How long at most the participant may take to join.
const MAX_WAIT_MS: u64 = 60 * 60 * 1000;
/// How long a participant may take to come back after this server was started.
const RETURN_MS: u64 = 60 * 1000;
/// How long it is waited whether a participant who is gone comes back at once, as clients do that connect anew.
const PAUSE_MS: u64 = 1_000;
/// The time until the second try of what failed; doubled with each further one.
const BACKOFF_MS: u64 = 1_000;
/// The longest time between two tries.
const MAX_BACKOFF_MS: u64 = 60_000;
/// After how many tries sending is given up; the event is then sent when its own time has come, or never.
const MAX_TRIES: u32 = 70;

/// A leave event that is looked after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// The delayed event.
    pub delay_id: String,
    /// After how many milliseconds it is sent if nobody restarts it.
    pub delay_ms: u64,
    /// Whose it is.
    pub user: UserNid,
    phase: Phase,
    /// Whether something is being done with it.
    is_busy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The participant has not joined yet.
    Waiting { until_ms: u64 },
    /// The participant is in the call.
    Connected { restart_ms: u64, failures: u32 },
    /// The participant is gone.
    Leaving { send_ms: u64, tries: u32 },
}

/// What is to be done with the delayed event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Let its time begin again.
    Restart,
    /// Send it now.
    Send,
}

/// What became of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was done.
    Done,
    /// The event has been sent or cancelled, or nobody may send it any more.
    Gone,
    /// It may be possible later.
    Failed,
}

impl Job {
    /// One that was delegated now, before its participant joined.
    pub fn new(delay_id: String, delay_ms: u64, user: UserNid, now_ms: u64) -> Job {
        let phase = Phase::Waiting { until_ms: now_ms.saturating_add(delay_ms.min(MAX_WAIT_MS)) };
        Job { delay_id, delay_ms, user, phase, is_busy: false }
    }

    /// One that was delegated before this server was started.
    pub fn resumed(delay_id: String, delay_ms: u64, user: UserNid, now_ms: u64) -> Job {
        let phase = Phase::Waiting { until_ms: now_ms.saturating_add(delay_ms.min(RETURN_MS)) };
        Job { delay_id, delay_ms, user, phase, is_busy: false }
    }

    /// When something has to be done; `None` while something is.
    pub fn due_ms(&self) -> Option<u64> {
        let at = match self.phase {
            Phase::Waiting { until_ms } => until_ms,
            Phase::Connected { restart_ms, .. } => restart_ms,
            Phase::Leaving { send_ms, .. } => send_ms,
        };
        (!self.is_busy).then_some(at)
    }

    /// The participant is in the call.
    pub fn joined(&mut self, now_ms: u64) {
        self.phase = Phase::Connected { restart_ms: now_ms, failures: 0 };
    }

    /// The participant is gone.
    pub fn left(&mut self, now_ms: u64) {
        if let Phase::Connected { .. } = self.phase {
            self.phase = Phase::Leaving { send_ms: now_ms.saturating_add(PAUSE_MS), tries: 0 };
        }
    }

    /// What has to be done now, if anything; [`Job::finish`] is called when that was tried.
    pub fn begin(&mut self, now_ms: u64) -> Option<Action> {
        if self.due_ms()? > now_ms {
            return None;
        }
        let action = match self.phase {
            Phase::Waiting { .. } => {
                self.phase = Phase::Leaving { send_ms: now_ms, tries: 0 };
                Action::Send
            }
            Phase::Connected { .. } => Action::Restart,
            Phase::Leaving { .. } => Action::Send,
        };
        self.is_busy = true;
        Some(action)
    }

    /// Notes what became of an action; `false` when the event need not be looked after any more.
    pub fn finish(&mut self, action: Action, outcome: Outcome, now_ms: u64) -> bool {
        self.is_busy = false;
        match (action, outcome) {
            (_, Outcome::Gone) | (Action::Send, Outcome::Done) => return false,
            (Action::Restart, _) => {
                // Unless the participant went meanwhile.
                if let Phase::Connected { restart_ms, failures } = &mut self.phase {
                    *failures = if outcome == Outcome::Done { 0 } else { failures.saturating_add(1) };
                    let pause = match outcome {
                        Outcome::Done => self.delay_ms / 5 * 4,
                        _ => backoff(*failures).min(self.delay_ms / 5),
                    };
                    *restart_ms = now_ms.saturating_add(pause.max(1));
                }
            }
            (Action::Send, _) => {
                // Unless the participant came back meanwhile.
                if let Phase::Leaving { send_ms, tries } = &mut self.phase {
                    *tries = tries.saturating_add(1);
                    *send_ms = now_ms.saturating_add(backoff(*tries));
                    return *tries < MAX_TRIES;
                }
            }
        }
        true
    }
}

fn backoff(failures: u32) -> u64 {
    BACKOFF_MS.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(MAX_BACKOFF_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 60 * 60 * 1000;

    fn job(delay_ms: u64) -> Job {
        Job::new("delay".to_owned(), delay_ms, UserNid(1), 0)
    }

    #[test]
    fn the_time_is_restarted_while_the_participant_is_there() {
        let mut job = job(10_000);
        assert_eq!(job.due_ms(), Some(10_000));
        job.joined(2_000);
        assert_eq!(job.begin(2_000), Some(Action::Restart));
        assert_eq!((job.due_ms(), job.begin(2_000)), (None, None), "one thing at a time");
        assert!(job.finish(Action::Restart, Outcome::Done, 2_100));
        assert_eq!(job.due_ms(), Some(10_100));
        assert_eq!(job.begin(10_099), None);
        assert_eq!(job.begin(10_100), Some(Action::Restart));
        assert!(!job.finish(Action::Restart, Outcome::Gone, 10_101), "it was cancelled");
    }

    #[test]
    fn failed_restarts_are_tried_again_before_the_time_is_over() {
        let mut job = job(HOUR);
        job.joined(0);
        let mut now = 0;
        for expected in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            assert_eq!(job.begin(now), Some(Action::Restart));
            assert!(job.finish(Action::Restart, Outcome::Failed, now));
            assert_eq!(job.due_ms(), Some(now + expected));
            now += expected;
        }
        let mut short = Job::new("delay".to_owned(), 2_000, UserNid(1), 0);
        short.joined(0);
        short.begin(0);
        assert!(short.finish(Action::Restart, Outcome::Failed, 0));
        assert_eq!(short.due_ms(), Some(400));
    }

    #[test]
    fn it_is_sent_when_the_participant_is_gone() {
        let mut job = job(HOUR);
        job.joined(0);
        job.begin(0);
        job.left(5_000);
        assert!(job.finish(Action::Restart, Outcome::Done, 5_001), "the answer to a restart changes nothing any more");
        assert_eq!(job.due_ms(), Some(6_000));
        assert_eq!(job.begin(6_000), Some(Action::Send));
        assert!(job.finish(Action::Send, Outcome::Failed, 6_000));
        assert_eq!(job.due_ms(), Some(7_000));
        assert_eq!(job.begin(7_000), Some(Action::Send));
        assert!(!job.finish(Action::Send, Outcome::Done, 7_001));
    }

    #[test]
    fn who_comes_back_at_once_has_not_left() {
        let mut job = job(HOUR);
        job.joined(0);
        job.left(5_000);
        job.joined(5_500);
        assert_eq!(job.begin(6_000), Some(Action::Restart));
    }

    #[test]
    fn who_never_comes_leaves() {
        let mut job = job(2 * HOUR);
        assert_eq!(job.begin(HOUR - 1), None);
        assert_eq!(job.begin(HOUR), Some(Action::Send));
        assert!(job.finish(Action::Send, Outcome::Failed, HOUR));
        let mut resumed = Job::resumed("delay".to_owned(), HOUR, UserNid(1), 1_000);
        assert_eq!(resumed.begin(61_000), Some(Action::Send));
        let mut leaving = Job::resumed("delay".to_owned(), HOUR, UserNid(1), 1_000);
        leaving.left(2_000);
        assert_eq!(leaving.due_ms(), Some(61_000), "one who is not there cannot go");
    }

    #[test]
    fn sending_is_given_up_in_the_end() {
        let mut job = job(HOUR);
        let (mut now, mut tries) = (HOUR, 0);
        while job.begin(now) == Some(Action::Send) {
            tries += 1;
            if !job.finish(Action::Send, Outcome::Failed, now) {
                break;
            }
            now = job.due_ms().unwrap();
        }
        assert_eq!(tries, MAX_TRIES);
    }
}
