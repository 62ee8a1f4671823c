//! What a run says in the end.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use tokio::time::sleep;

use crate::measure::{Counters, Flow, Received};
use crate::process::{cpu_seconds, load, resident_kib};
use crate::worker::{PeerHandle, Worker};

/// Where the server stood before anybody joined.
pub struct Meter {
    pid: Option<u32>,
    idle_kib: Option<u64>,
}

/// A window of time that is measured.
pub struct Window {
    meter: Meter,
    begin: Instant,
    server: Option<f64>,
    own: f64,
}

/// The figures of one run.
#[derive(Serialize)]
pub struct Report {
    name: String,
    seconds: f64,
    participants: u16,
    join_seconds: f64,
    audio: FlowReport,
    video: FlowReport,
    /// RTP packets forwarded to subscribers for each second of the server's CPU.
    forwards_per_cpu_second: Option<f64>,
    /// The server's share of one core.
    server_cpu: Option<f64>,
    generator_cpu: f64,
    /// Packets missing by their sequence numbers, of a million, after repetitions.
    lost_per_million: f64,
    /// Frames shown a second and video, and the longest time any video stood still.
    frames_per_second: Option<f64>,
    longest_gap_ms: Option<u64>,
    videos: u64,
    unstamped: u64,
    key_requests: u64,
    unsent: u64,
    idle_kib: Option<u64>,
    resident_kib: Option<u64>,
    kib_per_participant: Option<f64>,
    load: f64,
}

#[derive(Serialize)]
struct FlowReport {
    in_packets: f64,
    out_packets: f64,
    in_mbit: f64,
    out_mbit: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    max_ms: Option<f64>,
}

impl Meter {
    pub fn start(pid: Option<u32>) -> Result<Self> {
        Ok(Self { pid, idle_kib: pid.map(resident_kib).transpose()? })
    }

    /// Begins to measure.
    pub async fn window(self, workers: &[Worker]) -> Result<Window> {
        for worker in workers {
            worker.restart_counting().await?;
        }
        let server = self.pid.map(cpu_seconds).transpose()?;
        Ok(Window { meter: self, begin: Instant::now(), server, own: cpu_seconds(std::process::id())? })
    }
}

impl Window {
    /// Ends the window and says what was in it.
    pub async fn end(self, workers: &[Worker], name: &str, participants: u16, joined: Duration) -> Result<Report> {
        let server = self.meter.pid.map(cpu_seconds).transpose()?;
        let seconds = self.begin.elapsed().as_secs_f64();
        let own = cpu_seconds(std::process::id())? - self.own;
        let mut counters = Counters::default();
        let mut received = Received::default();
        for worker in workers {
            let count = worker.count().await?;
            counters.merge(&count.counters);
            count.received.iter().for_each(|one| received.merge(one));
        }
        let spent = server.zip(self.server).map(|(end, begin)| end - begin);
        let forwarded = (counters.audio.received_packets + counters.video.received_packets) as f64;
        let resident = self.meter.pid.map(resident_kib).transpose()?;
        let grown = resident.zip(self.meter.idle_kib).map(|(now, idle)| now.saturating_sub(idle) as f64);
        let videos = (received.videos > 0).then_some(received.videos as f64);
        Ok(Report {
            name: name.to_owned(),
            seconds,
            participants,
            join_seconds: joined.as_secs_f64(),
            audio: FlowReport::new(&counters.audio, seconds),
            video: FlowReport::new(&counters.video, seconds),
            forwards_per_cpu_second: spent.filter(|spent| *spent > 0.0).map(|spent| forwarded / spent),
            server_cpu: spent.map(|spent| spent / seconds),
            generator_cpu: own / seconds,
            lost_per_million: received.lost_share() * 1e6,
            frames_per_second: videos.map(|videos| received.frames as f64 / seconds / videos),
            longest_gap_ms: videos.map(|_| received.longest_gap.as_millis() as u64),
            videos: received.videos,
            unstamped: counters.unstamped,
            key_requests: counters.key_requests,
            unsent: counters.unsent,
            idle_kib: self.meter.idle_kib,
            resident_kib: resident,
            kib_per_participant: grown.map(|grown| grown / f64::from(participants.max(1))),
            load: load(),
        })
    }
}

impl FlowReport {
    fn new(flow: &Flow, seconds: f64) -> Self {
        let rate = |count: u64| count as f64 / seconds;
        Self {
            in_packets: rate(flow.sent_packets),
            out_packets: rate(flow.received_packets),
            in_mbit: rate(flow.sent_bytes) * 8e-6,
            out_mbit: rate(flow.received_bytes) * 8e-6,
            p50_ms: flow.latency.quantile(0.5),
            p99_ms: flow.latency.quantile(0.99),
            max_ms: flow.latency.quantile(1.0),
        }
    }
}

/// What one subscriber saw in half a second.
#[derive(Serialize)]
struct Trace {
    /// Seconds since the window began.
    at: f64,
    subscriber: usize,
    /// The layer of its first video.
    level: Option<u8>,
    frames_per_second: f64,
    kbit: f64,
    /// The longest time without a frame since the window began.
    longest_gap_ms: u128,
}

/// Prints a line for every subscriber every half second.
pub async fn trace(subscribers: &[PeerHandle], length: Duration) -> Result<()> {
    const STEP: Duration = Duration::from_millis(500);
    let begin = Instant::now();
    let mut before = vec![Received::default(); subscribers.len()];
    while begin.elapsed() < length {
        sleep(STEP).await;
        for (subscriber, (handle, before)) in subscribers.iter().zip(&mut before).enumerate() {
            let now = handle.with(|peer| peer.received(Instant::now())).await?;
            let line = Trace {
                at: begin.elapsed().as_secs_f64(),
                subscriber,
                level: now.level,
                frames_per_second: now.frames.saturating_sub(before.frames) as f64 / STEP.as_secs_f64(),
                kbit: now.bytes.saturating_sub(before.bytes) as f64 * 8e-3 / STEP.as_secs_f64(),
                longest_gap_ms: now.longest_gap.as_millis(),
            };
            println!("{}", serde_json::to_string(&line)?);
            *before = now;
        }
    }
    Ok(())
}
