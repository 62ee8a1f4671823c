//! `conduit top`: what a running server does, live in the terminal.
//!
//! The server is asked for its figures through the control socket once in a while; what is shown is computed from two
//! answers. The screen is drawn with the few escape sequences that every terminal knows.

mod screen;
mod view;

use std::cmp::Reverse;
use std::path::Path;
use std::time::Duration;

use admin::Admin;
use admin::statistics::{Dimension, day_of};
use runtime::{Clock, Metrics};
use serde::{Deserialize, Serialize};

use crate::control::{ControlRequest, send_control_request};
use screen::Screen;
use view::{View, render};

/// How many rooms are told.
const ROOMS: usize = 20;

/// What the server tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// The metrics in the text format of Prometheus.
    pub metrics: String,
    /// The rooms with most events today: their ids and how many events.
    pub rooms: Vec<(String, u64)>,
}

/// Shows figures until somebody presses `q`, or once. With `once`, two answers are taken one `interval` apart.
///
/// # Errors
/// What to tell the operator: no server is running, or it cannot be understood.
pub(crate) fn run(data_dir: &Path, interval: Duration, once: bool, as_json: bool) -> Result<String, String> {
    let clock = Clock::system();
    let mut before = (ask(data_dir)?, clock.monotonic());
    if once {
        std::thread::sleep(interval);
        let now = (ask(data_dir)?, clock.monotonic());
        let view = View::compute(&before.0, &now.0, now.1.saturating_sub(before.1))?;
        let json = || serde_json::to_string(&view).map_err(|error| error.to_string());
        return if as_json { Ok(json()? + "\n") } else { Ok(render(&view, 80, 24).join("\n") + "\n") };
    }
    let mut screen = Screen::open().map_err(|error| format!("this needs a terminal (see --once): {error}"))?;
    while !screen.wait_for_quit(interval).map_err(|error| error.to_string())? {
        let now = (ask(data_dir)?, clock.monotonic());
        let view = View::compute(&before.0, &now.0, now.1.saturating_sub(before.1))?;
        let (columns, rows) = screen.size();
        screen.draw(&render(&view, columns, rows)).map_err(|error| error.to_string())?;
        before = now;
    }
    Ok(String::new())
}

/// The server's side: figures and the rooms with most events today, as JSON.
///
/// # Errors
/// What to tell the operator.
pub(crate) fn tell_figures(admin: &Admin, metrics: &Metrics) -> Result<String, String> {
    let today = day_of(admin.clock().now_ms());
    let counts = admin.statistics().messages((today, today), None, &[Dimension::Room]);
    let mut counts = counts.map_err(|error| error.to_string())?;
    counts.sort_by_key(|count| Reverse(count.count));
    let named = counts.into_iter().filter_map(|count| {
        // A room that was deleted since has no name any more.
        let head = admin.rooms().head(count.room?).ok()?;
        Some((head.room_id().to_string(), count.count))
    });
    let figures = Figures { metrics: metrics.render(), rooms: named.take(ROOMS).collect() };
    serde_json::to_string(&figures).map_err(|error| error.to_string())
}

fn ask(data_dir: &Path) -> Result<Figures, String> {
    let told =
        send_control_request(data_dir, &ControlRequest::Figures, &mut |_| {}).map_err(|error| error.to_string())?;
    serde_json::from_str(&told).map_err(|error| format!("the server is of another version: {error}"))
}
