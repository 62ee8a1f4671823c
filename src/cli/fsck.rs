//! `conduit fsck`: checks what is stored against the invariants of the crates that store it.

use std::process::ExitCode;
use std::time::Duration;

use rooms::fsck::Findings;
use runtime::Clock;
use serde_json::json;
use storage::{Backend, OpenError, Options, Store};

use crate::assemble::all_keyspaces;
use crate::config::Config;

/// Something stored is broken.
const BROKEN: u8 = 1;
/// Nothing could be checked.
const CANNOT_CHECK: u8 = 2;
/// How often a long check says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Checks the data of a configuration and prints what is broken. Without a configuration, says why.
pub(super) fn check_data(config: Result<Config, String>, json: bool) -> ExitCode {
    let checked = config.and_then(|config| find_problems(&config)).and_then(|findings| {
        super::print(&if json { render_json(&findings) } else { render_lines(&findings) })?;
        Ok(findings)
    });
    match checked {
        Ok(findings) => {
            let Findings { rooms, events, problems } = findings;
            eprintln!("checked {rooms} rooms with {events} events: {} problems", problems.len());
            if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) }
        }
        Err(message) => {
            eprintln!("conduit: {message}");
            ExitCode::from(CANNOT_CHECK)
        }
    }
}

fn find_problems(config: &Config) -> Result<Findings, String> {
    let path = config.data_dir.join("store");
    // Opening would make a database where there is none, and call it sound.
    if !path.join("CURRENT").exists() {
        return Err(format!("there is no database in {}", config.data_dir.display()));
    }
    let store = Store::open(Options::new(Backend::Rocks { path }, all_keyspaces())).map_err(|error| match error {
        OpenError::Locked { .. } => {
            format!("a server is running with the data in {}: stop it first", config.data_dir.display())
        }
        error => error.to_string(),
    })?;
    let clock = Clock::system();
    let mut next_report = REPORT_EVERY;
    let mut report = |rooms: usize| {
        if clock.monotonic() >= next_report {
            next_report = clock.monotonic() + REPORT_EVERY;
            eprintln!("checked {rooms} rooms …");
        }
    };
    let findings = rooms::fsck::check(&store, &mut report).map_err(|error| error.to_string())?;
    store.close().map_err(|error| error.to_string())?;
    Ok(findings)
}

fn render_lines(findings: &Findings) -> String {
    findings.problems.iter().map(|problem| format!("{}: {}\n", problem.place, problem.what)).collect()
}

fn render_json(findings: &Findings) -> String {
    let problems = findings.problems.iter().map(|problem| json!({"place": problem.place, "what": problem.what}));
    let problems: Vec<_> = problems.collect();
    format!("{}\n", json!({"rooms": findings.rooms, "events": findings.events, "problems": problems}))
}
