//! A server within the test's own process, in memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use admin::Admin;
use conduit::{Config, ConfigSources, Environment, OtherTransport, Registration, Server, StartError};
use runtime::{Clock, Metrics, Random};
use storage::{Backend, MemoryDisk};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{HttpAddress, HttpClient, Neighbours};

/// A whole server on the memory backend, at a unix socket. Its data outlive a restart. Registration is
/// open and nothing is rate-limited. The test itself is an ordinary blocking one.
pub struct TestServer {
    runtime: Runtime,
    server: Option<Server>,
    config: Config,
    disk: MemoryDisk,
    clock: Clock,
    random: Random,
    transport: Option<OtherTransport>,
    folder: TempDir,
}

impl TestServer {
    /// Starts a server with the machine's clock and reproducible randomness.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> TestServer {
        TestServer::start_with(Clock::system(), |_| {})
    }

    /// Starts a server with the given clock, after `adjust` has changed its configuration.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_with(clock: Clock, adjust: impl FnOnce(&mut Config)) -> TestServer {
        TestServer::build(clock, None, adjust)
    }

    /// As [`TestServer::start_with`], under a name by which its neighbours reach it, and it them.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start_among(
        neighbours: &Neighbours,
        name: &str,
        clock: Clock,
        adjust: impl FnOnce(&mut Config),
    ) -> TestServer {
        let transport = OtherTransport(Arc::new(neighbours.clone()));
        let server = TestServer::build(clock, Some(transport), |config| {
            config.server_name = name.to_owned();
            adjust(config);
        });
        neighbours.add(name, server.address());
        server
    }

    fn build(clock: Clock, transport: Option<OtherTransport>, adjust: impl FnOnce(&mut Config)) -> TestServer {
        let folder = tempfile::Builder::new().prefix("conduit").tempdir().expect("a temporary folder can be made");
        let socket = folder.path().join("http.sock");
        let listener = format!("unix:{}", socket.display()).parse().expect("an address");
        let mut config = Config {
            server_name: "hs.test".to_owned(),
            data_dir: folder.path().join("data"),
            listeners: vec![listener],
            registration: Registration::Open,
            ..Config::default()
        };
        config.rate_limits.enabled = false;
        // The first account of most tests is nobody who wants to be invited to administer anything.
        config.admin.room = false;
        adjust(&mut config);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("threads can be started");
        let (disk, random) = (MemoryDisk::new(), Random::seeded(1));
        let mut server = TestServer { runtime, server: None, config, disk, clock, random, transport, folder };
        server.run();
        server
    }

    fn run(&mut self) {
        assert!(self.disk.wait_until_free(), "somebody still holds the store");
        let started = self.try_run();
        self.server = Some(started.unwrap_or_else(|error| panic!("the server does not start: {error}")));
    }

    fn try_run(&self) -> Result<Server, StartError> {
        let environment = Environment {
            clock: self.clock.clone(),
            random: self.random.clone(),
            backend: Backend::MemoryDisk(self.disk.clone()),
            metrics: Metrics::new(),
            transport: self.transport.clone(),
        };
        self.runtime.block_on(Server::start_in(self.config.clone(), environment))
    }

    /// Stops the server properly and starts it again on the same data.
    ///
    /// # Panics
    /// If it does not stop in time, or does not start.
    pub fn restart(&mut self) {
        self.stop();
        self.run();
    }

    fn stop(&mut self) {
        if let Some(server) = self.server.take() {
            let stopping = async { tokio::time::timeout(Duration::from_secs(60), server.shutdown()).await };
            let stopped = self.runtime.block_on(stopping);
            assert_eq!(stopped, Ok(true), "the server stops properly");
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> HttpAddress {
        HttpAddress::Unix(self.folder.path().join("http.sock"))
    }

    /// A client with a connection of its own.
    #[must_use]
    pub fn client(&self) -> HttpClient {
        HttpClient::new(self.address())
    }

    /// The folder of its data, with the control socket.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    /// Its administration.
    ///
    /// # Panics
    /// If it is stopped.
    #[must_use]
    pub fn admin(&self) -> &Admin {
        self.server.as_ref().expect("the server runs").admin()
    }

    /// Tells the server where its configuration is to be read from when it is reloaded, until it is restarted.
    ///
    /// # Panics
    /// If it is stopped.
    pub fn set_origin(&self, sources: ConfigSources) {
        self.server.as_ref().expect("the server runs").set_origin(sources, None);
    }

    /// Waits for a future, in the runtime of the server.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The server's clock: a fake one can be moved.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // A test that fails already has its reason; it need not wait for a proper end.
        if !std::thread::panicking() {
            self.stop();
        }
    }
}
