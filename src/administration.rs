//! What administration needs of the program and of federation: its ports.

use std::path::Path;
use std::sync::Arc;

use admin::ports::{ConfigDifference, ConfigReload, Configuration, DestinationState, OtherServers, Program};
use admin::{BoxFuture, Caller};
use federation::Federation;
use media::Media;
use runtime::Tasks;
use spec::ids::ServerName;
use storage::Store;

use crate::backup::BackupSource;
use crate::config::{Config, Difference, compare_with_defaults, list_effective_values};
use crate::reload::{Reloaded, Reloader};

/// Other servers, as federation knows them.
pub(crate) struct FederatedServers(pub(crate) Federation);

impl OtherServers for FederatedServers {
    fn state(&self, server: &ServerName) -> DestinationState {
        let destinations = self.0.destinations();
        DestinationState {
            is_allowed: destinations.is_allowed(server),
            failing_since_ms: destinations.failing_since(server),
            retry_at_ms: destinations.retry_at(server),
            failures: destinations.failures(server),
            is_pending: self.0.is_pending(server),
        }
    }

    fn failing(&self) -> Vec<ServerName> {
        self.0.destinations().failing()
    }

    fn reset(&self, server: ServerName) -> BoxFuture<()> {
        let destinations = self.0.destinations().clone();
        // As if it had answered: whoever waits for it tries at once.
        Box::pin(async move { destinations.record_success(&server).await })
    }
}

/// This program.
pub(crate) struct ThisProgram {
    backup: BackupSource,
}

impl ThisProgram {
    pub(crate) fn new(config: &Config, store: &Store, media: &Media, tasks: &Tasks) -> ThisProgram {
        let data_dir: Arc<Path> = config.data_dir.clone().into();
        let backup = BackupSource { data_dir, store: store.clone(), media: media.clone(), tasks: tasks.clone() };
        ThisProgram { backup }
    }
}

impl Program for ThisProgram {
    fn back_up(&self, directory: String, caller: Caller) -> BoxFuture<Result<String, String>> {
        let source = self.backup.clone();
        Box::pin(async move {
            let work = move || source.copy_to(Path::new(&directory), &|text| caller.progress(text));
            // It waits for the disk: it must not take a core's place among computations.
            let made = tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())?;
            made.map(|report| report.to_string()).map_err(|error| error.to_string())
        })
    }
}

/// The configuration of the server, as it is reloaded.
impl Configuration for Reloader {
    fn values(&self) -> Vec<(String, String)> {
        list_effective_values(&self.running())
    }

    fn differences(&self) -> Vec<ConfigDifference> {
        compare_with_defaults(&self.running()).into_iter().map(describe).collect()
    }

    fn reload(&self) -> BoxFuture<Result<ConfigReload, String>> {
        let reloader = self.clone();
        Box::pin(async move {
            // It waits for the disk: it must not take a core's place among computations.
            let work = tokio::task::spawn_blocking(move || reloader.reload_from_origin());
            let done = work.await.map_err(|error| error.to_string())?.inspect_err(|error| {
                tracing::error!(%error, "the configuration was not reloaded");
            });
            let Reloaded { changed, needs_restart, appservices } = done.map_err(|error| error.to_string())?;
            let list = |differences: Vec<Difference>| differences.into_iter().map(describe).collect();
            Ok(ConfigReload { changed: list(changed), needs_restart: list(needs_restart), appservices })
        })
    }
}

fn describe(difference: Difference) -> ConfigDifference {
    let Difference { key, before, after } = difference;
    ConfigDifference { key, before, after }
}
