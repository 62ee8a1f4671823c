//! `conduit fsck`: checks what is stored against the invariants of the crates that store it.

use std::process::ExitCode;
use std::time::Duration;

use runtime::Clock;
use serde_json::{Value, json};
use storage::{Backend, OpenError, Options, Store};

use crate::assemble::{MEDIA_DIR, STORE_DIR, all_keyspaces};
use crate::backup::is_unfinished;
use crate::config::Config;

/// Something stored is broken.
const BROKEN: u8 = 1;
/// Nothing could be checked.
const CANNOT_CHECK: u8 = 2;
/// How often a long check says how far it is.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// What the crates have found.
struct Findings {
    rooms: rooms::fsck::Findings,
    users: users::fsck::Findings,
    media: media::fsck::Findings,
}

/// Checks the data of a configuration and prints what is broken. Without a configuration, says why.
pub(super) fn check_data(config: Result<Config, String>, json: bool) -> ExitCode {
    let checked = config.and_then(|config| find_problems(&config)).and_then(|findings| {
        super::print(&if json { findings.render_json() } else { findings.render_lines() })?;
        Ok(findings)
    });
    match checked {
        Ok(findings) => {
            let Findings { rooms, users, media } = &findings;
            eprintln!(
                "checked {} rooms with {} events, {} accounts with {} devices, {} media in {} files ({} more are unused)",
                rooms.rooms, rooms.events, users.accounts, users.devices, media.media, media.files, media.unused_files
            );
            let problems = findings.problems().count();
            eprintln!("{problems} problems");
            if problems == 0 { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) }
        }
        Err(message) => {
            eprintln!("conduit: {message}");
            ExitCode::from(CANNOT_CHECK)
        }
    }
}

fn find_problems(config: &Config) -> Result<Findings, String> {
    let data_dir = config.data_dir.display();
    let path = config.data_dir.join(STORE_DIR);
    if is_unfinished(&config.data_dir) {
        return Err(format!("{data_dir} is a backup that was not finished: delete it"));
    }
    // Opening would make a database where there is none, and call it sound.
    if !path.join("CURRENT").exists() {
        return Err(format!("there is no database in {data_dir}"));
    }
    let store = Store::open(Options::new(Backend::Rocks { path }, all_keyspaces())).map_err(|error| match error {
        OpenError::Locked { .. } => format!("a server is running with the data in {data_dir}: stop it first"),
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
    let rooms = rooms::fsck::check(&store, &mut report).map_err(|error| error.to_string())?;
    let users = users::fsck::check(&store).map_err(|error| error.to_string())?;
    let media = media::fsck::check(&store, &config.data_dir.join(MEDIA_DIR)).map_err(|error| error.to_string())?;
    store.close().map_err(|error| error.to_string())?;
    Ok(Findings { rooms, users, media })
}

impl Findings {
    /// Where and what, of all crates.
    fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        let rooms = self.rooms.problems.iter().map(|problem| (problem.place.as_str(), problem.what.as_str()));
        let users = self.users.problems.iter().map(|problem| (problem.place.as_str(), problem.what.as_str()));
        let media = self.media.problems.iter().map(|problem| (problem.place.as_str(), problem.what.as_str()));
        rooms.chain(users).chain(media)
    }

    fn render_lines(&self) -> String {
        self.problems().map(|(place, what)| format!("{place}: {what}\n")).collect()
    }

    fn render_json(&self) -> String {
        let problems: Vec<Value> = self.problems().map(|(place, what)| json!({"place": place, "what": what})).collect();
        let found = json!({
            "rooms": self.rooms.rooms,
            "events": self.rooms.events,
            "accounts": self.users.accounts,
            "devices": self.users.devices,
            "media": self.media.media,
            "files": self.media.files,
            "unused_files": self.media.unused_files,
            "problems": problems,
        });
        format!("{found}\n")
    }
}
