//! What is shown, and how it is laid out.

use std::collections::BTreeMap;
use std::time::Duration;

use runtime::text::{TextFamily, quantile, read_exposition};
use serde::Serialize;

use super::Figures;

type Families = BTreeMap<String, TextFamily>;

/// What is computed from two answers. Rates are for each second, times in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct View {
    pub uptime_seconds: f64,
    pub version: String,
    pub requests: f64,
    pub connections: f64,
    pub sync_waiting: f64,
    pub events_local: f64,
    pub events_remote: f64,
    pub commits: f64,
    pub memory_bytes: f64,
    /// Of one processor.
    pub cpu_percent: f64,
    pub open_files: f64,
    pub tasks: f64,
    pub panics: f64,
    pub calls: f64,
    pub participants: f64,
    pub latencies: Vec<Latency>,
    pub queues: Vec<(&'static str, f64)>,
    pub rooms: Vec<(String, u64)>,
}

/// How long something took, of what happened between the two answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Latency {
    pub what: &'static str,
    pub count: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

const LATENCIES: [(&str, &str); 6] = [
    ("answers, without waiting", "conduit_http_duration_seconds"),
    ("request to commit", "conduit_event_append_seconds"),
    ("send to sync", "conduit_delivery_sync_seconds"),
    ("send to other servers", "conduit_delivery_federation_seconds"),
    ("computing a sync", "conduit_sync_compute_seconds"),
    ("disk write", "conduit_commit_write_seconds"),
];

const QUEUES: [(&str, &str); 6] = [
    ("servers waited for", "conduit_federation_pending_servers"),
    ("servers backing off", "conduit_federation_backing_off"),
    ("events to check", "conduit_federation_staged_events"),
    ("pushers waiting", "conduit_push_pending_pushers"),
    ("search behind", "conduit_search_behind"),
    ("rooms being written", "conduit_room_writers"),
];

impl View {
    /// `took` lies between the two answers.
    ///
    /// # Errors
    /// The server told something that is no metrics.
    pub fn compute(before: &Figures, now: &Figures, took: Duration) -> Result<View, String> {
        let (old, new) = (read_exposition(&before.metrics)?, read_exposition(&now.metrics)?);
        let total = |name: &str| new.get(name).map_or(0.0, TextFamily::total);
        let seconds = took.as_secs_f64().max(0.001);
        let rate = |name: &str, label: Option<(&str, &str)>| {
            (sum(&new, name, label) - sum(&old, name, label)).max(0.0) / seconds
        };
        let events = |origin| rate("conduit_events_total", Some(("origin", origin)));
        let version = new.get("conduit_build_info").and_then(|family| family.samples.first()?.labels.get("version"));
        Ok(View {
            uptime_seconds: total("conduit_uptime_seconds"),
            version: version.cloned().unwrap_or_default(),
            requests: rate("conduit_http_requests_total", None),
            connections: total("conduit_connections"),
            sync_waiting: total("conduit_sync_waiting"),
            events_local: events("local"),
            events_remote: events("remote"),
            commits: rate("conduit_commits_total", None),
            memory_bytes: total("process_resident_memory_bytes"),
            cpu_percent: rate("process_cpu_seconds_total", None) * 100.0,
            open_files: total("process_open_fds"),
            tasks: total("conduit_tasks_running"),
            panics: total("conduit_task_panics_total"),
            calls: total("conduit_sfu_rooms"),
            participants: total("conduit_sfu_participants"),
            latencies: LATENCIES.iter().map(|(what, name)| measure(what, name, &old, &new)).collect(),
            queues: QUEUES.iter().map(|(what, name)| (*what, total(name))).collect(),
            rooms: now.rooms.clone(),
        })
    }
}

/// The sum of the series that have this label, or of all.
fn sum(families: &Families, name: &str, label: Option<(&str, &str)>) -> f64 {
    let samples = families.get(name).map(|family| family.samples.as_slice()).unwrap_or_default();
    let wanted = samples
        .iter()
        .filter(|sample| label.is_none_or(|(key, value)| sample.labels.get(key).is_some_and(|found| found == value)));
    wanted.map(|sample| sample.value).sum()
}

fn measure(what: &'static str, name: &str, old: &Families, new: &Families) -> Latency {
    let buckets = |families: &Families| families.get(name).map(TextFamily::buckets).unwrap_or_default();
    let earlier = buckets(old);
    let between: Vec<(f64, f64)> = buckets(new)
        .into_iter()
        .enumerate()
        .map(|(at, (bound, count))| (bound, count - earlier.get(at).map_or(0.0, |(_, count)| *count)))
        .collect();
    let ms = |q| quantile(&between, q).map(|seconds| seconds * 1e3);
    Latency { what, count: between.last().map_or(0.0, |(_, count)| *count), p50_ms: ms(0.5), p99_ms: ms(0.99) }
}

/// The lines of a screen of this size, none longer than it is wide.
pub(super) fn render(view: &View, columns: usize, rows: usize) -> Vec<String> {
    let mut lines = vec![
        format!("Conduit {}   up {}   q: quit", view.version, show_time(view.uptime_seconds)),
        String::new(),
        format!(
            "{:>9.1} requests/s  {:>8.1} events/s here  {:>8.1} events/s from others",
            view.requests, view.events_local, view.events_remote
        ),
        format!(
            "{:>9.0} syncs wait  {:>8.0} connections    {:>8.1} commits/s",
            view.sync_waiting, view.connections, view.commits
        ),
        format!(
            "{:>9} memory      {:>7.0}% of a processor {:>8.0} open files",
            show_bytes(view.memory_bytes),
            view.cpu_percent,
            view.open_files
        ),
        format!(
            "{:>9.0} calls       {:>8.0} participants   {:>8.0} tasks, {:.0} panics",
            view.calls, view.participants, view.tasks, view.panics
        ),
        String::new(),
        format!("{:<24}{:>7}{:>9}{:>9}   {:<20}{:>8}", "TIMES (ms)", "count", "p50", "p99", "QUEUES", "length"),
    ];
    for (at, latency) in view.latencies.iter().enumerate() {
        let ms = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        let (p50, p99) = (ms(latency.p50_ms), ms(latency.p99_ms));
        let queue = view.queues.get(at).map(|(what, length)| format!("{what:<20}{length:>8.0}"));
        let (what, count) = (latency.what, latency.count);
        lines.push(format!("{what:<24}{count:>7.0}{p50:>9}{p99:>9}   {}", queue.unwrap_or_default()));
    }
    lines.push(String::new());
    lines.push(format!("{:>10}  {}", "EVENTS", "ROOMS WITH MOST EVENTS TODAY"));
    lines.extend(view.rooms.iter().map(|(room, events)| format!("{events:>10}  {room}")));
    lines.truncate(rows);
    // Room ids are of others: nothing in them may reach the terminal as a command.
    lines.iter().map(|line| line.chars().filter(|letter| !letter.is_control()).take(columns).collect()).collect()
}

fn show_bytes(bytes: f64) -> String {
    let mib = bytes / (1024.0 * 1024.0);
    if mib >= 1024.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}

fn show_time(seconds: f64) -> String {
    let seconds = seconds as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    if days > 0 { format!("{days} d {hours} h") } else { format!("{hours}:{minutes:02}:{:02}", seconds % 60) }
}

#[cfg(test)]
mod tests {
    use runtime::{Metrics, TIME_BUCKETS};

    use super::*;

    fn figures(fill: impl FnOnce(&Metrics)) -> Figures {
        let metrics = Metrics::new();
        metrics.gauge("conduit_build_info", "1.", &[("version", "1.2.3")]).set(1);
        metrics.gauge("conduit_uptime_seconds", "Uptime.", &[]).set(3_725);
        metrics.gauge("process_resident_memory_bytes", "Memory.", &[]).set(200 * 1024 * 1024);
        fill(&metrics);
        Figures { metrics: metrics.render(), rooms: vec![("!busy:example.org\u{1b}[2J".to_owned(), 1234)] }
    }

    #[test]
    fn one_frame_from_fixed_figures() {
        let count = |requests, events, times: &'static [f64]| {
            figures(move |metrics| {
                metrics.counter("conduit_http_requests_total", "Requests.", &[("listener", "matrix")]).add(requests);
                metrics.counter("conduit_events_total", "Events.", &[("origin", "local")]).add(events);
                let histogram = metrics.histogram("conduit_event_append_seconds", "Time.", TIME_BUCKETS, &[]);
                times.iter().for_each(|time| histogram.observe(*time));
                metrics.gauge("conduit_federation_backing_off", "Servers.", &[]).set(3);
            })
        };
        let view =
            View::compute(&count(100, 10, &[0.02]), &count(300, 30, &[0.02, 0.004, 0.004]), Duration::from_secs(2));
        let view = view.unwrap();
        assert_eq!((view.requests, view.events_local), (100.0, 10.0));
        let frame = render(&view, 80, 24);
        assert!(frame.len() <= 24 && frame.iter().all(|line| line.chars().count() <= 80), "{frame:#?}");
        assert_eq!(frame[0], "Conduit 1.2.3   up 1:02:05   q: quit");
        assert_eq!(frame[2], "    100.0 requests/s      10.0 events/s here       0.0 events/s from others");
        assert_eq!(frame[4], "  200 MiB memory            0% of a processor        0 open files");
        assert_eq!(frame[9], "request to commit             2      3.8      5.0   servers backing off        3");
        assert_eq!(frame.last().unwrap(), "      1234  !busy:example.org[2J");
    }

    #[test]
    fn a_small_screen_is_not_overrun() {
        let view = View::compute(&figures(|_| ()), &figures(|_| ()), Duration::ZERO).unwrap();
        let frame = render(&view, 20, 5);
        assert!(frame.len() == 5 && frame.iter().all(|line| line.chars().count() <= 20));
    }
}
