//! What the kernel tells of this process. Names that begin with `process_` are those that all programs use.

use std::fs;

use runtime::{Clock, Metrics};

/// Clock ticks a second in `/proc`: the same on all of Linux's platforms.
const TICKS: f64 = 100.0;

/// Memory, processor time and files in use.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct ProcessFigures {
    /// Memory that it has, in bytes.
    pub resident_bytes: f64,
    /// Address space that it has, in bytes.
    pub virtual_bytes: f64,
    /// Processor time that it has used, in seconds.
    pub cpu_seconds: f64,
    /// Threads.
    pub threads: f64,
}

/// Shows the figures of the process. Where the kernel does not say, they are 0.
pub(super) fn publish(metrics: &Metrics, clock: &Clock) {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    metrics.gauge("conduit_build_info", "1, with the version that runs.", &version).set(1);
    let read = || read_process().resident_bytes;
    metrics.observe_gauge("conduit_resident_bytes", "Memory in use.", &[], read);
    metrics.observe_gauge("process_resident_memory_bytes", "Memory in use.", &[], read);
    let read = || read_process().virtual_bytes;
    metrics.observe_gauge("process_virtual_memory_bytes", "Address space in use.", &[], read);
    let read = || read_process().cpu_seconds;
    metrics.observe_counter("process_cpu_seconds_total", "Processor time used.", &[], read);
    metrics.observe_gauge("process_threads", "Threads.", &[], || read_process().threads);
    metrics.observe_gauge("process_open_fds", "Open files and sockets.", &[], count_open_files);
    metrics.observe_gauge("process_max_fds", "How many files and sockets may be open.", &[], read_file_limit);
    let started = clock.now_ms() as f64 / 1000.0;
    let help = "When it started, in seconds since the Unix epoch.";
    metrics.observe_gauge("process_start_time_seconds", help, &[], move || started);
    let (clock, began) = (clock.clone(), clock.monotonic());
    let uptime = move || clock.monotonic().saturating_sub(began).as_secs_f64();
    metrics.observe_gauge("conduit_uptime_seconds", "For how long it has been running.", &[], uptime);
}

/// Asks the kernel.
pub(crate) fn read_process() -> ProcessFigures {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let number = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    ProcessFigures {
        resident_bytes: number("VmRSS:").unwrap_or(0.0) * 1024.0,
        virtual_bytes: number("VmSize:").unwrap_or(0.0) * 1024.0,
        cpu_seconds: read_ticks(&stat).unwrap_or(0.0) / TICKS,
        threads: number("Threads:").unwrap_or(0.0),
    }
}

/// Time in the program and in the kernel, of `/proc/self/stat`: the 14th and 15th field. The second, the name, may hold
/// anything, so fields are counted after it.
fn read_ticks(stat: &str) -> Option<f64> {
    let (_, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn count_open_files() -> f64 {
    fs::read_dir("/proc/self/fd").map_or(0.0, |entries| entries.count() as f64)
}

fn read_file_limit() -> f64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.map_or(f64::INFINITY, |limit| limit as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_after_any_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 9";
        assert_eq!(read_ticks(stat), Some(300.0));
        assert_eq!(read_ticks("7 (a"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let figures = read_process();
        assert!(figures.resident_bytes > 1e6 && figures.threads >= 1.0, "{figures:?}");
    }
}
