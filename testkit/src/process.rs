//! The real program, as a process of its own.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use runtime::Clock;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{HttpAddress, HttpClient};

/// How long a start, and how long a stop, may take.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// A server process with a data folder of its own, which it keeps over restarts. It listens at a unix
/// socket; registration is open and nothing is rate-limited. Dropping it kills it.
pub struct ConduitProcess {
    binary: PathBuf,
    folder: TempDir,
    settings: Vec<String>,
    child: Option<Child>,
    clock: Clock,
}

impl ConduitProcess {
    /// Prepares a server that runs `binary`; `settings` are further `key=value` arguments. It does not
    /// run yet.
    ///
    /// # Panics
    /// If no folder can be made.
    #[must_use]
    pub fn new(binary: impl Into<PathBuf>, settings: &[&str]) -> ConduitProcess {
        // The path of a unix socket has little room, so the prefix is short.
        let folder = tempfile::Builder::new().prefix("conduit").tempdir().expect("a temporary folder can be made");
        let mut server = ConduitProcess {
            binary: binary.into(),
            folder,
            settings: vec![
                "registration=open".into(),
                "rate_limits.enabled=false".into(),
                "server_name=hs.test".into(),
                "admin.room=false".into(),
            ],
            child: None,
            clock: Clock::system(),
        };
        server.settings.push(format!("data_dir={}", server.data_dir().display()));
        server.settings.push(format!("listeners=[\"unix:{}\"]", server.socket().display()));
        server.settings.extend(settings.iter().map(|setting| (*setting).to_owned()));
        server
    }

    /// Listens at a free TCP port besides; returns the address. For clients that know no unix sockets.
    /// Takes effect with the next start.
    ///
    /// # Panics
    /// If no port is free.
    pub fn add_tcp_listener(&mut self) -> HttpAddress {
        // Free now; that nobody takes it before the start is likely, not certain.
        let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = listener.expect("a port is free");
        self.set(&format!("listeners=[\"unix:{}\", \"{address}\"]", self.socket().display()));
        HttpAddress::Tcp(address)
    }

    /// Changes the configuration (`key=value`) from the next start on.
    pub fn set(&mut self, setting: &str) {
        let key = setting.split_inclusive('=').next().unwrap_or_default();
        self.settings.retain(|other| !other.starts_with(key));
        self.settings.push(setting.to_owned());
    }

    /// Where the server keeps everything.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The folder around it: log, socket, and room for a test's own files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("http.sock")
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> HttpAddress {
        HttpAddress::Unix(self.socket())
    }

    /// A client with a connection of its own.
    #[must_use]
    pub fn client(&self) -> HttpClient {
        HttpClient::new(self.address())
    }

    /// Whatever the server has logged in all its runs.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read(self.folder.path().join("server.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// A command of the program with this server's configuration. It inherits no configuration from
    /// the environment or the working directory.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CONDUIT_") {
                command.env_remove(name);
            }
        }
        for setting in &self.settings {
            command.arg("--set").arg(setting);
        }
        command
    }

    /// Runs a command of the program to its end, such as `["fsck"]`.
    ///
    /// # Panics
    /// If the program cannot be run.
    #[must_use]
    pub fn run_command(&self, arguments: &[&str]) -> Output {
        self.command().args(arguments).output().expect("the program can be run")
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    /// If it runs already, ends at once, or does not answer in time.
    pub fn start(&mut self) {
        self.spawn();
        self.wait_until_ready();
    }

    /// Starts the server without waiting.
    ///
    /// # Panics
    /// If it runs already or cannot be started.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the server runs already");
        let log = File::options().create(true).append(true).open(self.folder.path().join("server.log"));
        let log = log.expect("the log can be written");
        let errors = log.try_clone().expect("a file handle can be cloned");
        let child = self.command().arg("run").stdout(log).stderr(errors).spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("cannot run {}: {error}", self.binary.display())));
    }

    /// Waits until the server that was spawned answers.
    ///
    /// # Panics
    /// If it ends, or does not answer in time.
    pub fn wait_until_ready(&mut self) {
        let deadline = self.clock.monotonic() + PATIENCE;
        loop {
            let answer = self.client().request("GET", "/_matrix/client/versions", None, None);
            if answer.is_ok_and(|response| response.status == 200) {
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "the server ended ({ended:?}):\n{}", self.log());
            assert!(self.clock.monotonic() < deadline, "the server does not answer:\n{}", self.log());
            thread::sleep(POLL);
        }
    }

    /// Kills the server as a crash would (SIGKILL) and waits until it is gone. Does nothing if it does
    /// not run.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails only when it has ended by itself, and waiting says how.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Has the server read its configuration again (SIGHUP). Does not wait for it.
    ///
    /// # Panics
    /// If it does not run.
    pub fn hang_up(&self) {
        signal(self.child.as_ref().expect("the server runs"), Signal::HUP);
    }

    /// Asks the server to stop (SIGTERM) and waits for its end.
    ///
    /// # Panics
    /// If it does not run, or does not end in time.
    pub fn terminate(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the server runs");
        signal(&child, Signal::TERM);
        let deadline = self.clock.monotonic() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("the process can be waited for") {
                return status;
            }
            if self.clock.monotonic() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the server does not stop:\n{}", self.log());
            }
            thread::sleep(POLL);
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process has a number");
    kill_process(pid, signal).expect("the process can be signalled");
}

impl Drop for ConduitProcess {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("the end of the server's log:");
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
    }
}
