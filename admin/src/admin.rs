//! The one way by which operations are performed: permission, record, log.

use std::future::Future;
use std::sync::Arc;

use calls::Calls;
use media::Media;
use rooms::{RoomNid, Rooms};
use runtime::{Clock, Metrics, Random, Tasks};
use search::Search;
use serde_json::Value;
use storage::{Read, Store};
use tokio::sync::oneshot;
use users::{Role, Users};

use crate::ahead::start_reading_ahead;
use crate::audit::{Audit, Ending, NewRecord, start_forgetting, start_recording};
use crate::caller::{Actor, Caller};
use crate::config::AdminConfig;
use crate::entry::Prepared;
use crate::error::AdminError;
use crate::face::room::rows::ADMIN_ROOM;
use crate::face::room::{self, Announcements};
use crate::jobs::{Jobs, start_runners};
use crate::meters::Meters;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::Outcome;
use crate::policy::{self, PolicyLists};
use crate::ports::Ports;
use crate::statistics::{Statistics, StatisticsParts};

/// What administration is built from.
pub struct AdminParts {
    /// The rooms.
    pub rooms: Rooms,
    /// The accounts.
    pub users: Users,
    /// The content repository.
    pub media: Media,
    /// Calls.
    pub calls: Calls,
    /// The search in messages, if it is enabled.
    pub search: Option<Search>,
    /// The store with [`crate::keyspaces`].
    pub store: Store,
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Where work runs that goes on after its request.
    pub tasks: Tasks,
    /// The metrics.
    pub metrics: Metrics,
    /// What other parts do for administration.
    pub ports: Ports,
    /// Settings.
    pub config: AdminConfig,
}

/// Handle of administration: cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    parts: AdminParts,
    audit: Audit,
    jobs: Jobs,
    started_ms: u64,
    announcements: Announcements,
    policy: Arc<PolicyLists>,
    statistics: Statistics,
    meters: Meters,
}

/// Something that is done and recorded.
#[derive(Clone, Debug)]
pub struct Action {
    /// `user suspend`: the operation, or a name in its form for what is none.
    pub name: String,
    /// Who may.
    pub needs: Needs,
    /// What it does.
    pub effect: Effect,
    /// What it is done to, without secrets: an object.
    pub arguments: Value,
}

impl Action {
    /// What an operation does with these arguments.
    #[must_use]
    pub fn of<O: Operation>(operation: &O) -> Action {
        let name = format!("{} {}", O::NAME.0, O::NAME.1);
        let arguments = serde_json::to_value(operation).unwrap_or_default();
        Action { name, needs: O::NEEDS, effect: O::EFFECT, arguments }
    }
}

macro_rules! handles {
    ($($(#[doc = $doc:literal])* $name:ident: $type:ty),* $(,)?) => {
        $($(#[doc = $doc])*
        #[must_use]
        pub fn $name(&self) -> &$type {
            &self.0.parts.$name
        })*
    };
}

impl Admin {
    /// Opens administration. Reads the rows of all jobs.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn open(parts: AdminParts) -> Result<Admin, AdminError> {
        let audit = Audit::open(parts.store.clone(), parts.clock.clone())?;
        let jobs = Jobs::open(parts.store.clone(), parts.clock.clone())?;
        let started_ms = parts.clock.now_ms();
        let statistics = Statistics::new(StatisticsParts {
            store: parts.store.clone(),
            rooms: parts.rooms.clone(),
            users: parts.users.clone(),
            media: parts.media.clone(),
            clock: parts.clock.clone(),
            metrics: parts.metrics.clone(),
        });
        let meters = Meters::new(&parts.metrics, &jobs);
        let (announcements, policy) = (Announcements::default(), Arc::default());
        Ok(Admin(Arc::new(Inner { parts, audit, jobs, started_ms, announcements, policy, statistics, meters })))
    }

    handles! {
        /// The rooms.
        rooms: Rooms,
        /// The accounts.
        users: Users,
        /// The content repository.
        media: Media,
        /// Calls.
        calls: Calls,
        /// The search in messages, if it is enabled.
        search: Option<Search>,
        /// The store.
        store: Store,
        /// Time.
        clock: Clock,
        /// Randomness.
        random: Random,
        /// Where work runs that goes on after its request.
        tasks: Tasks,
        /// The metrics.
        metrics: Metrics,
        /// What other parts do for administration.
        ports: Ports,
        /// Settings.
        config: AdminConfig,
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Starts what goes on by itself: the admin room, policy lists, and jobs, those first that a restart interrupted. Call it once,
    /// inside of a runtime.
    pub fn start(&self) {
        policy::start(self);
        room::start(self);
        start_runners(self);
        start_reading_ahead(self);
        start_recording(self);
        start_forgetting(self);
        self.statistics().start(self.tasks());
    }

    /// Says something in the admin room without having been asked, as soon as there is one.
    pub fn announce(&self, text: String) {
        if self.config().room {
            self.0.announcements.add(text);
        }
    }

    /// The admin room, once it was made.
    ///
    /// # Errors
    /// Storage errors only.
    pub(crate) fn admin_room(&self) -> Result<Option<RoomNid>, AdminError> {
        Ok(self.store().get(&ADMIN_ROOM, &())?.map(|row| row.room))
    }

    /// Figures by day.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.0.statistics
    }

    /// Where it is counted what administrators do.
    pub(crate) fn meters(&self) -> &Meters {
        &self.0.meters
    }

    /// The policy lists that the server follows.
    pub(crate) fn policy(&self) -> &Arc<PolicyLists> {
        &self.0.policy
    }

    pub(crate) fn announcements(&self) -> &Announcements {
        &self.0.announcements
    }

    /// The jobs.
    #[must_use]
    pub fn jobs(&self) -> &Jobs {
        &self.0.jobs
    }

    /// When the server was started, in milliseconds since 1970.
    #[must_use]
    pub fn started_ms(&self) -> u64 {
        self.0.started_ms
    }

    /// Performs an operation, in a task of its own: it runs to its end whatever becomes of the request. Cancel-safe:
    /// dropped, only the answer is lost.
    ///
    /// # Errors
    /// `Forbidden` for a caller who may not; what the operation says.
    pub async fn perform(&self, caller: &Caller, prepared: Prepared) -> Result<Outcome, AdminError> {
        let Prepared { entry, arguments, run, .. } = prepared;
        let action = Action { name: entry.name(), needs: entry.needs, effect: entry.effect, arguments };
        let (admin, caller) = (self.clone(), caller.clone());
        let (answer, answered) = oneshot::channel();
        self.tasks().spawn("operation", async move {
            let work = run(admin.clone(), caller.clone());
            let outcome = admin.audited(&caller, action, work).await;
            // Whoever asked may be gone.
            let _ = answer.send(outcome);
        });
        answered.await.unwrap_or_else(|_| Err(AdminError::unavailable("the operation was interrupted")))
    }

    /// [`Admin::perform`], for an operation whose arguments are at hand.
    ///
    /// # Errors
    /// As [`Admin::perform`].
    pub async fn perform_operation<O: Operation>(&self, caller: &Caller, operation: O) -> Result<Outcome, AdminError> {
        self.perform(caller, Prepared::of(operation)).await
    }

    /// Does something that is no operation by itself, with the same permission check, record and log line. What changes
    /// something is recorded before it begins, so that dropping the future leaves a record of what was begun.
    ///
    /// # Errors
    /// `Forbidden` for a caller who may not; what `work` says.
    pub async fn audited<T>(
        &self,
        caller: &Caller,
        action: Action,
        work: impl Future<Output = Result<T, AdminError>>,
    ) -> Result<T, AdminError> {
        if let Err(refused) = self.check_permission(caller, action.needs) {
            self.record_refusal(caller, action, &refused).await?;
            return Err(refused);
        }
        let Action { name, effect, arguments, .. } = action;
        let record = NewRecord { caller, operation: &name, arguments: &arguments };
        let begun = match effect {
            Effect::Reads => None,
            Effect::Changes | Effect::Destroys => Some(self.audit().begin(record).await?),
        };
        let outcome = work.await;
        let (ending, message) = match &outcome {
            Ok(_) => (Ending::Done, None),
            Err(AdminError::Forbidden(text)) => (Ending::Refused, Some(text.clone())),
            Err(error) => (Ending::Failed, Some(error.to_string())),
        };
        match &outcome {
            Ok(_) => tracing::info!(operation = name, who = %caller.who, face = caller.face.name(), "operation done"),
            Err(error) => {
                tracing::info!(operation = name, who = %caller.who, face = caller.face.name(), %error, "operation failed");
            }
        }
        self.meters().count_operation(caller.face, ending);
        match begun {
            Some(begun) => self.audit().end(begun, ending, message).await?,
            None => self.audit().note(record, ending, message).await?,
        }
        outcome
    }

    /// Records that a caller was refused.
    ///
    /// # Errors
    /// If the record cannot be written.
    pub(crate) async fn record_refusal(
        &self,
        caller: &Caller,
        action: Action,
        refused: &AdminError,
    ) -> Result<(), AdminError> {
        tracing::warn!(operation = action.name, who = %caller.who, face = caller.face.name(), "operation refused");
        self.meters().count_operation(caller.face, Ending::Refused);
        let record = NewRecord { caller, operation: &action.name, arguments: &action.arguments };
        self.audit().note(record, Ending::Refused, Some(refused.to_string())).await
    }

    /// Whether the caller may do what needs these rights, by their account as it is now.
    ///
    /// # Errors
    /// `Forbidden`.
    pub fn check_permission(&self, caller: &Caller, needs: Needs) -> Result<(), AdminError> {
        let user = match &caller.who {
            Actor::Operator | Actor::Server => return Ok(()),
            Actor::User(user, _) => *user,
            Actor::Account(_) => return Err(AdminError::forbidden("only administrators of this server may do this")),
        };
        let account = self.users().account(user)?;
        let is_active = account.is_some_and(|account| !account.is_deactivated && !account.is_locked);
        match (self.users().role(user)?, needs) {
            (Some(Role::Administrator), _) | (Some(Role::Moderator), Needs::Moderator) if is_active => Ok(()),
            (_, Needs::Moderator) => {
                Err(AdminError::forbidden("only moderators and administrators of this server may do this"))
            }
            (_, Needs::Administrator) => Err(AdminError::forbidden("only administrators of this server may do this")),
        }
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}
