//! `conduit calls`: looks after calls.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use crate::calls::{CallsStatus, Finding, Level, examine};
use crate::config::Config;
use crate::control::{ControlRequest, send_control_request};

/// Something fails.
const FAILS: u8 = 1;
/// Nothing could be looked at.
const CANNOT_CHECK: u8 = 2;

#[derive(Debug, Subcommand)]
pub(super) enum CallsCommand {
    /// Check that calls can be had: configuration, ports, addresses, and the ways that clients go
    ///
    /// Run it where the server runs, with its configuration. It goes to the public address, and asks the
    /// STUN server if one is configured. Prints one line for each thing it looked at, and what to open or
    /// set. Exits with 0 if nothing fails, 1 if something does, 2 if it cannot check.
    Doctor {
        /// Print one JSON object instead
        #[arg(long)]
        json: bool,
    },
}

/// Runs a command. Without a configuration, says why.
pub(super) fn run(command: CallsCommand, config: Result<Config, String>) -> ExitCode {
    let CallsCommand::Doctor { json } = command;
    let examined = config.and_then(|config| {
        let findings = examine_server(&config)?;
        super::print(&if json { render_json(&findings) } else { render_lines(&findings) })?;
        Ok(findings)
    });
    match examined {
        Ok(findings) if findings.iter().any(|finding| finding.level == Level::Fail) => ExitCode::from(FAILS),
        Ok(_) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("conduit: {message}");
            ExitCode::from(CANNOT_CHECK)
        }
    }
}

fn examine_server(config: &Config) -> Result<Vec<Finding>, String> {
    let status = send_control_request(&config.data_dir, &ControlRequest::CallsStatus, &mut |_| {});
    let status = status.map_err(|error| error.to_string()).and_then(|text| {
        serde_json::from_str::<CallsStatus>(&text).map_err(|error| format!("the server is of another version: {error}"))
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start threads: {error}"))?;
    Ok(runtime.block_on(examine(config, status)))
}

fn render_lines(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { check, level, found, advice } in findings {
        let level = match level {
            Level::Ok => "ok  ",
            Level::Warn => "WARN",
            Level::Fail => "FAIL",
        };
        text.push_str(&format!("{level} {check}: {found}\n"));
        if let Some(advice) = advice {
            text.push_str(&format!("     {advice}\n"));
        }
    }
    text
}

fn render_json(findings: &[Finding]) -> String {
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    format!("{}\n", json!({"worst": worst, "findings": findings}))
}
