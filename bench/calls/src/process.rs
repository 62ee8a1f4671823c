//! What a process costs, as the kernel counts it.

use std::fs::read_to_string;

use anyhow::{Context, Result};

/// Length of the kernel's tick for these counts: `USER_HZ`, 100 on every architecture Linux has today.
const TICKS_A_SECOND: f64 = 100.0;

/// CPU seconds a process has used, in user and kernel mode, all of its threads.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = read_to_string(format!("/proc/{pid}/stat")).context("the server is gone")?;
    // The name of the command is in brackets and may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat is odd")?;
    let mut fields = fields.split_ascii_whitespace().skip(11).map(str::parse::<f64>);
    let (Some(Ok(user)), Some(Ok(system))) = (fields.next(), fields.next()) else {
        anyhow::bail!("/proc/PID/stat is odd")
    };
    Ok((user + system) / TICKS_A_SECOND)
}

/// Memory of a process that is in RAM, in KiB.
pub fn resident_kib(pid: u32) -> Result<u64> {
    let status = read_to_string(format!("/proc/{pid}/status")).context("the server is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// The machine's load over the last minute.
pub fn load() -> f64 {
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_ascii_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_time() {
        let pid = std::process::id();
        assert!(resident_kib(pid).is_ok_and(|kib| kib > 500));
        assert!(cpu_seconds(pid).is_ok_and(|seconds| seconds < 3600.0));
        assert!(cpu_seconds(u32::MAX).is_err());
    }
}
