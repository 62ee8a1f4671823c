//! The figures of the database.

use std::sync::Arc;

use runtime::{Gauge, Metrics, SIZE_BUCKETS, TIME_BUCKETS};
use storage::{Store, StoreFigures};

/// Levels of files that RocksDB can have.
const LEVELS: [&str; 7] = ["0", "1", "2", "3", "4", "5", "6"];

/// Shows how much is written, how well commits share the writes, and what the database tells of itself.
pub(super) fn publish(metrics: &Metrics, store: &Store) {
    publish_commits(metrics, store);
    let gauges = StoreGauges::new(metrics);
    let store = store.clone();
    metrics.before_reading(move |_| gauges.set(&store.figures()));
}

fn publish_commits(metrics: &Metrics, store: &Store) {
    let commits = metrics.counter("conduit_commits_total", "Batches committed.", &[]);
    let groups = metrics.counter("conduit_commit_groups_total", "Writes to the disk that committed them.", &[]);
    let bytes = metrics.counter("conduit_commit_bytes_total", "Bytes of rows that were committed.", &[]);
    let help = "Batches that one write committed.";
    let sizes = metrics.histogram("conduit_commit_group_batches", help, SIZE_BUCKETS, &[]);
    let help = "Time of one write, with the disk sync where commits are durable.";
    let writes = metrics.histogram("conduit_commit_write_seconds", help, TIME_BUCKETS, &[]);
    let help = "From the end of a write until all who follow commits were told.";
    let publishes = metrics.histogram("conduit_commit_publish_seconds", help, TIME_BUCKETS, &[]);
    store.measure_groups(Arc::new(move |group| {
        commits.add(group.batches as u64);
        groups.add(1);
        bytes.add(group.bytes as u64);
        sizes.observe(group.batches as f64);
        writes.observe_duration(group.write);
        publishes.observe_duration(group.publish);
    }));
    let read = store.clone();
    let position = move || read.visible().0 as f64;
    metrics.observe_gauge("conduit_store_position", "The position of the newest commit.", &[], position);
    let read = store.clone();
    let failed = move || f64::from(u8::from(read.failure().is_some()));
    metrics.observe_gauge("conduit_store_failed", "1 if nothing more is written until the next start.", &[], failed);
}

struct StoreGauges {
    write_buffers: Gauge,
    block_cache: Gauge,
    table_readers: Gauge,
    levels: [Gauge; 7],
    files: Gauge,
    pending_compaction: Gauge,
    compactions: Gauge,
    flushes: Gauge,
    stopped: Gauge,
    slowed_to: Gauge,
}

impl StoreGauges {
    fn new(metrics: &Metrics) -> StoreGauges {
        let gauge = |name, help| metrics.gauge(name, help, &[]);
        let memory = |part| {
            let help = "Memory of the database.";
            metrics.gauge("conduit_store_memory_bytes", help, &[("part", part)])
        };
        let level = |level| {
            let help = "Bytes of the database's files, by level.";
            metrics.gauge("conduit_store_level_bytes", help, &[("level", level)])
        };
        StoreGauges {
            write_buffers: memory("write_buffers"),
            block_cache: memory("block_cache"),
            table_readers: memory("table_readers"),
            levels: LEVELS.map(level),
            files: gauge("conduit_store_files", "Files of the database."),
            pending_compaction: gauge("conduit_store_pending_compaction_bytes", "What merging files is behind by."),
            compactions: gauge("conduit_store_running_compactions", "Merges of files in progress."),
            flushes: gauge("conduit_store_running_flushes", "Write buffers being written to files."),
            stopped: gauge(
                "conduit_store_writes_stopped",
                "1 while the database takes no writes because it is behind.",
            ),
            slowed_to: gauge(
                "conduit_store_slowed_to_bytes",
                "To how many bytes a second the database slows writes down; 0 if it does not.",
            ),
        }
    }

    fn set(&self, figures: &StoreFigures) {
        let set = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.write_buffers, figures.write_buffers);
        set(&self.block_cache, figures.block_cache);
        set(&self.table_readers, figures.table_readers);
        for (level, gauge) in self.levels.iter().enumerate() {
            set(gauge, figures.levels.get(level).copied().unwrap_or(0));
        }
        set(&self.files, figures.files);
        set(&self.pending_compaction, figures.pending_compaction);
        set(&self.compactions, figures.running_compactions);
        set(&self.flushes, figures.running_flushes);
        set(&self.stopped, u64::from(figures.writes_stopped));
        set(&self.slowed_to, figures.slowed_to);
    }
}
