//! Figures about administration itself.

use runtime::Metrics;

use crate::audit::Ending;
use crate::caller::Face;
use crate::jobs::{JobState, Jobs};

/// Where it is counted what administrators do.
#[derive(Clone)]
pub(crate) struct Meters(Metrics);

impl Meters {
    /// Shows how many jobs there are besides.
    pub(crate) fn new(metrics: &Metrics, jobs: &Jobs) -> Meters {
        let jobs = jobs.clone();
        let help = "Jobs of administrators that wait or run.";
        metrics.observe_gauge("conduit_admin_jobs", help, &[], move || jobs.count_active() as f64);
        let meters = Meters(metrics.clone());
        // So that there is something to watch before the first one.
        meters.operations(Face::Http, Ending::Done).add(0);
        meters.jobs(JobState::Done).add(0);
        meters
    }

    /// An operation has ended so.
    pub(crate) fn count_operation(&self, face: Face, ending: Ending) {
        self.operations(face, ending).add(1);
    }

    /// A job has ended so.
    pub(crate) fn count_job(&self, state: JobState) {
        self.jobs(state).add(1);
    }

    fn operations(&self, face: Face, ending: Ending) -> runtime::Counter {
        let labels = [("face", face.name()), ("outcome", ending.name())];
        self.0.counter("conduit_admin_operations_total", "What administrators did, and were refused.", &labels)
    }

    fn jobs(&self, state: JobState) -> runtime::Counter {
        let labels = [("outcome", state.name())];
        self.0.counter("conduit_admin_jobs_ended_total", "Jobs of administrators that ended.", &labels)
    }
}
