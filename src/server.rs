//! A running server: start, reload, shutdown.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use admin::Admin;
use axum::routing::get;
use http::header;
use runtime::{Clock, LogHandle, Metrics, Random, Tasks};
use storage::{Backend, OpenError, Store};
use tokio::sync::Semaphore;

use crate::assemble::{Parts, STORE_DIR, assemble_parts};
use crate::calls::Carriers;
use crate::config::{Config, ConfigSources, ListenAddress};
use crate::control::Control;
use crate::health::Health;
use crate::listen::{ListenError, Listener, Serving, ServingMetrics};
use crate::reload::{ReloadError, Reloaded, Reloader};
use crate::tls::{Certificate, TlsError};

/// Connections to the metrics listener at a time.
const METRICS_CONNECTIONS: usize = 16;

/// What a server takes from outside besides its configuration; tests replace parts of it.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub random: Random,
    /// Where data is kept.
    pub backend: Backend,
    /// The metrics registry.
    pub metrics: Metrics,
    /// The way to other servers, where it is not the network.
    pub transport: Option<OtherTransport>,
}

/// A way to other servers that a test provides.
#[derive(Clone)]
pub struct OtherTransport(pub Arc<dyn federation::Transport>);

impl std::fmt::Debug for OtherTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OtherTransport")
    }
}

impl Environment {
    /// The machine's clock and randomness, and RocksDB in `data_dir`.
    pub fn system(config: &Config) -> Environment {
        Environment {
            clock: Clock::system(),
            random: Random::system(),
            backend: Backend::Rocks { path: config.data_dir.join(STORE_DIR) },
            metrics: Metrics::new(),
            transport: None,
        }
    }
}

/// The server cannot start; the operator's business.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be made or written to.
    #[error("cannot use the data folder {}: {source}", path.display())]
    DataDir { path: PathBuf, source: io::Error },
    /// The data folder is a backup that was not finished.
    #[error("{} is a backup that was not finished: use another one", data_dir.display())]
    UnfinishedBackup { data_dir: PathBuf },
    /// The database does not open.
    #[error("cannot open the database: {0}")]
    Store(#[from] OpenError),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A part of the server cannot be made from what is configured or stored.
    #[error("{0}")]
    Part(String),
    /// An address cannot be listened at.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// A running server. Stop it by [`Server::shutdown`]; dropping it leaves its tasks running.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<ListenAddress>,
    metrics_address: Option<ListenAddress>,
    admin: Admin,
    tasks: Tasks,
    store: Store,
    reloader: Reloader,
    grace: Duration,
}

impl Server {
    /// Starts a server with the machine's clock, randomness and disk. When this returns, the
    /// server answers. Needs a tokio runtime. Not cancel-safe: let it finish.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub async fn start(config: Config) -> Result<Server, StartError> {
        let environment = Environment::system(&config);
        Server::start_in(config, environment).await
    }

    /// As [`Server::start`], in the given environment.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left running then.
    pub async fn start_in(config: Config, environment: Environment) -> Result<Server, StartError> {
        let data_dir_failed = |source| StartError::DataDir { path: config.data_dir.clone(), source };
        std::fs::create_dir_all(&config.data_dir).map_err(data_dir_failed)?;
        let certificate = read_certificate(&config)?;
        let tasks = Tasks::new(&environment.metrics);
        // Ports are taken first: another server there is noticed before the database is touched.
        let listeners = config.listeners.iter().map(|address| Listener::bind(address, certificate.as_ref()));
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        let metrics_listener = config.metrics.listener.as_ref().map(|address| Listener::bind(address, None));
        let metrics_listener = metrics_listener.transpose()?;
        let carriers = Carriers::start(&config, &environment, &tasks, certificate.as_ref()).await?;
        let calls = carriers.status_source();
        // What carries calls has threads of its own.
        let parts = assemble_parts(&config, &environment, &tasks, carriers, certificate);
        let parts = parts.inspect_err(|_| tasks.shut_down())?;
        let Parts { store, reloader, admin, router } = parts;
        let data_dir: Arc<Path> = config.data_dir.clone().into();
        let control = Control {
            data_dir: data_dir.clone(),
            admin: admin.clone(),
            calls,
            metrics: environment.metrics.clone(),
            tasks: tasks.clone(),
        };
        let control_socket = control.bind().map_err(data_dir_failed)?;
        tasks.spawn("control listener", control.serve(control_socket));

        let addresses = listeners.iter().map(|listener| listener.address().clone()).collect();
        let metrics_address = metrics_listener.as_ref().map(|listener| listener.address().clone());
        let health = Health::new(store.clone(), tasks.clone(), data_dir.clone());
        let serving = Serving {
            router: router.merge(health.router()),
            tasks: tasks.clone(),
            connections: Arc::new(Semaphore::new(config.max_connections.min(Semaphore::MAX_PERMITS))),
            trusted_proxies: config.trusted_proxies.clone().into(),
            clock: environment.clock.clone(),
            metrics: ServingMetrics::new(&environment.metrics, "matrix"),
        };
        for listener in listeners {
            tasks.spawn_essential("listener", listener.serve(serving.clone()));
        }
        if let Some(listener) = metrics_listener {
            let serving = serve_metrics(serving, &environment.metrics, &health);
            tasks.spawn("metrics listener", listener.serve(serving));
        }
        let grace = config.shutdown_grace.duration();
        Ok(Server { addresses, metrics_address, admin, tasks, store, reloader, grace })
    }

    /// Where the server listens, with the real ports, in the order of the configuration.
    pub fn addresses(&self) -> &[ListenAddress] {
        &self.addresses
    }

    /// Its administration.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Where metrics are served, if they are.
    pub fn metrics_address(&self) -> Option<&ListenAddress> {
        self.metrics_address.as_ref()
    }

    /// Takes over the reloadable keys of `config`.
    ///
    /// # Errors
    /// [`ReloadError`]: then everything stays as it was.
    pub fn reload(&self, config: &Config) -> Result<Reloaded, ReloadError> {
        self.reloader.reload(config)
    }

    /// Tells where the configuration comes from, for those who have it read again while the server runs, and which log it
    /// sets. Once.
    pub fn set_origin(&self, sources: ConfigSources, log: Option<LogHandle>) {
        self.reloader.set_origin(sources, log);
    }

    /// Ready when the server wants to stop by itself, because a part that it needs has ended.
    /// Cancel-safe.
    pub async fn wait_for_failure(&self) {
        self.tasks.shutdown_signal().await;
    }

    /// Stops accepting, answers long polls at once, waits for requests in progress (at most
    /// `shutdown_grace`) and closes the store. `false` when requests had to be given up or the
    /// store could not be closed properly. Not cancel-safe: let it finish.
    pub async fn shutdown(self) -> bool {
        let drained = self.tasks.drain(self.grace).await;
        if !drained {
            tracing::warn!(tasks = self.tasks.running(), "shutdown does not wait for the rest");
        }
        // The store waits for its committer, a thread of its own.
        let store = self.store;
        match tokio::task::spawn_blocking(move || store.close()).await {
            Ok(Ok(())) => drained,
            Ok(Err(error)) => {
                tracing::error!(%error, "the store was not closed properly");
                false
            }
            Err(_) => false,
        }
    }
}

fn read_certificate(config: &Config) -> Result<Option<Arc<Certificate>>, TlsError> {
    let uses_tls = config.listeners.iter().any(|address| matches!(address, ListenAddress::Tls(_)));
    uses_tls.then(|| Certificate::read(config).map(Arc::new)).transpose()
}

fn serve_metrics(serving: Serving, metrics: &Metrics, health: &Health) -> Serving {
    let registry = metrics.clone();
    let render =
        get(async move || ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], registry.render()));
    Serving {
        router: health.router().route("/metrics", render),
        connections: Arc::new(Semaphore::new(METRICS_CONNECTIONS)),
        metrics: ServingMetrics::new(metrics, "metrics"),
        ..serving
    }
}
