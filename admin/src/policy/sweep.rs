//! The job that looks at all users once the rules have changed.

use std::hash::{DefaultHasher, Hash, Hasher};

use rooms::UserNid;
use serde::{Deserialize, Serialize};
use serde_json::json;
use spec::policy_list::PolicyRules;
use storage::{Batch, Read};

use super::people::{Judge, Tally};
use super::rows::POLICY_SWEPT;
use crate::admin::Admin;
use crate::caller::Caller;
use crate::error::AdminError;
use crate::jobs::{JobKind, JobQuery, JobState, Progress, Step};

/// How many users one step looks at.
const USERS: usize = 500;
/// How many jobs are looked at for one that has not begun.
const JOBS: usize = 100;

/// The job.
pub(crate) struct SweepPeople;

/// It is told nothing: the rules are those in force.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SweepArguments {}

/// Where the next step begins. Stored as JSON.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SweepCursor {
    after: u64,
    looked_at: u64,
    tally: Tally,
}

impl JobKind for SweepPeople {
    const NAME: &'static str = "policy-sweep";
    type Arguments = SweepArguments;
    type Cursor = SweepCursor;

    fn target(_: &SweepArguments) -> Option<String> {
        None
    }

    async fn step(admin: &Admin, _: &SweepArguments, mut cursor: SweepCursor) -> Result<Step<SweepCursor>, AdminError> {
        let rules = admin.policy().rules();
        let judge = Judge::new(admin, &rules)?;
        let users = admin.rooms().users_after(UserNid(cursor.after), USERS)?;
        for (user, user_id) in &users {
            judge.look_at(*user, user_id, &mut cursor.tally).await?;
            cursor.after = user.0;
            cursor.looked_at += 1;
        }
        if users.len() == USERS {
            let progress = Progress::new("users are looked at", cursor.looked_at, None);
            return Ok(Step::More(cursor, progress));
        }
        if let Some(text) = cursor.tally.announcement() {
            admin.announce(text);
        }
        let Tally { withdrawn, banned, lifted, found, .. } = cursor.tally;
        let result = json!({"invitations_withdrawn": withdrawn, "banned": banned, "unbanned": lifted, "found": found});
        Ok(Step::Done(result))
    }
}

/// Starts the job unless all users were looked at by these rules already.
///
/// # Errors
/// Those of the store; `Unavailable` if too many jobs wait.
pub(super) async fn start_if_needed(admin: &Admin, rules: &PolicyRules) -> Result<(), AdminError> {
    let judged_by = hash(&Judge::new(admin, rules)?, rules);
    if admin.store().get(&POLICY_SWEPT, &())?.unwrap_or_default() == judged_by {
        return Ok(());
    }
    start(admin).await?;
    let mut batch = Batch::new();
    batch.put(&POLICY_SWEPT, &(), &judged_by);
    admin.store().commit(batch).await?;
    Ok(())
}

/// Starts the job, unless one waits that has not begun: it will go by the rules of then.
///
/// # Errors
/// As [`start_if_needed`].
pub(super) async fn start(admin: &Admin) -> Result<(), AdminError> {
    let query = JobQuery { kind: Some(SweepPeople::NAME.to_owned()), active: true, ..JobQuery::default() };
    let active = admin.jobs().list(&query, JOBS)?.jobs;
    if !active.iter().any(|(_, row)| row.state == JobState::Queued) {
        admin.jobs().start::<SweepPeople>(&Caller::server(), &SweepArguments {}).await?;
    }
    Ok(())
}

/// What users are judged by, as a number; 0 without rules. A new version of the program may have another: then all are
/// looked at once more.
fn hash(judge: &Judge<'_>, rules: &PolicyRules) -> u64 {
    if rules.is_empty() {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    for listed in rules.all() {
        let rule = &listed.rule;
        (&*listed.list, rule.subject(), rule.entity()).hash(&mut hasher);
    }
    for (list, moderator) in judge.moderators() {
        (list, moderator.as_str()).hash(&mut hasher);
    }
    hasher.finish()
}

/// Looks at some users whose memberships have changed.
///
/// # Errors
/// As [`Judge::look_at`].
pub(super) async fn look_at(
    admin: &Admin,
    rules: &PolicyRules,
    users: impl IntoIterator<Item = UserNid>,
) -> Result<(), AdminError> {
    let (judge, mut tally) = (Judge::new(admin, rules)?, Tally::default());
    for user in users {
        judge.look_at(user, &admin.rooms().user_id(user)?, &mut tally).await?;
    }
    if let Some(text) = tally.announcement() {
        admin.announce(text);
    }
    Ok(())
}
