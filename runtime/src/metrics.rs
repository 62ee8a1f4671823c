//! Counters, gauges and histograms, rendered in the Prometheus text format.
//!
//! A series is looked up once, when its owner is constructed; what remains on hot paths is one or
//! two relaxed atomic additions.

#[cfg(test)]
mod tests;

pub mod text;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Histogram bounds in seconds, 100 µs to 30 s.
pub const TIME_BUCKETS: &[f64] = &[0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
/// Histogram bounds for counts and sizes.
pub const SIZE_BUCKETS: &[f64] = &[1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0];

/// Histogram bounds in seconds for what travels: 1 ms to an hour.
pub const DELIVERY_BUCKETS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3600.0];

/// The metrics of one server; cloning is cheap and clones share the series.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Registry>);

/// Sets gauges before they are read.
type Refresher = Arc<dyn Fn(&Metrics) + Send + Sync>;

#[derive(Default)]
struct Registry {
    families: Mutex<BTreeMap<&'static str, Family>>,
    /// Called before the series are read.
    refreshers: Mutex<Vec<Refresher>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry")
    }
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    /// Key: the rendered label set, `{a="b",c="d"}` or nothing.
    series: BTreeMap<String, Series>,
}

#[derive(Clone)]
enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
    Read(Kind, Arc<dyn Fn() -> f64 + Send + Sync>),
}

/// What the value of a series that is read on demand is.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

/// A number that only grows.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicI64>);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds `amount`, which may be negative.
    pub fn add(&self, amount: i64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A distribution over fixed buckets.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Distribution>);

#[derive(Debug)]
struct Distribution {
    bounds: &'static [f64],
    /// One for each bound and one for what is above the last; each counts only its own interval.
    counts: Box<[AtomicU64]>,
    /// The sum in millionths, so that an integer addition is enough.
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Nothing counted yet; `bounds` ascend, such as [`TIME_BUCKETS`]. Nobody sees it before [`Metrics::publish`].
    pub fn new(bounds: &'static [f64]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram(Arc::new(Distribution { bounds, counts, sum_micros: AtomicU64::new(0) }))
    }

    /// Counts one value.
    pub fn observe(&self, value: f64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        // A float cast saturates; a negative value adds nothing.
        self.0.sum_micros.fetch_add((value * 1e6) as u64, Ordering::Relaxed);
    }

    /// Counts one duration, in seconds.
    pub fn observe_duration(&self, duration: Duration) {
        self.observe(duration.as_secs_f64());
    }
}

impl Metrics {
    /// No series yet.
    pub fn new() -> Metrics {
        Metrics::default()
    }

    /// The counter of this name and label set, made on first use. `name` ends in `_total`.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Counter {
        match self.series(name, help, labels, || Series::Counter(Counter::default())) {
            Series::Counter(counter) => counter,
            other => report_conflict(name, &other, Counter::default()),
        }
    }

    /// The gauge of this name and label set, made on first use.
    pub fn gauge(&self, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Gauge {
        match self.series(name, help, labels, || Series::Gauge(Gauge::default())) {
            Series::Gauge(gauge) => gauge,
            other => report_conflict(name, &other, Gauge::default()),
        }
    }

    /// The histogram of this name and label set, made on first use with `bounds` (ascending, such
    /// as [`TIME_BUCKETS`]).
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        bounds: &'static [f64],
        labels: &[(&str, &str)],
    ) -> Histogram {
        match self.series(name, help, labels, || Series::Histogram(Histogram::new(bounds))) {
            Series::Histogram(histogram) => histogram,
            other => report_conflict(name, &other, Histogram::new(bounds)),
        }
    }

    /// A gauge whose value is asked for when metrics are rendered; `read` must be quick and must
    /// not call back into these metrics. The first registration of a name and label set stays.
    pub fn observe_gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.series(name, help, labels, || Series::Read(Kind::Gauge, Arc::new(read)));
    }

    /// As [`Metrics::observe_gauge`], for a number that only grows; `name` ends in `_total`.
    pub fn observe_counter(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.series(name, help, labels, || Series::Read(Kind::Counter, Arc::new(read)));
    }

    /// Shows a counter, gauge or histogram that its owner made before it knew these metrics. The first of a name and
    /// label set stays.
    pub fn publish(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        figure: impl Into<Published>,
    ) {
        self.series(name, help, labels, || figure.into().0);
    }

    /// Calls `refresh` each time before the series are read, to set gauges whose values are found out together. It must
    /// be quick, must not render these metrics, which it is given, and must not hold them: they would hold themselves.
    pub fn before_reading(&self, refresh: impl Fn(&Metrics) + Send + Sync + 'static) {
        self.0.refreshers.lock().push(Arc::new(refresh));
    }

    /// The names of all families, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.families.lock().keys().copied().collect()
    }

    fn series(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        make: impl FnOnce() -> Series,
    ) -> Series {
        let mut families = self.0.families.lock();
        let family = families.entry(name).or_insert_with(|| Family { help, series: BTreeMap::new() });
        family.series.entry(render_labels(labels)).or_insert_with(make).clone()
    }

    /// All series in the Prometheus text format (`text/plain; version=0.0.4`).
    pub fn render(&self) -> String {
        // Not under the lock: a refresher may look up a series.
        let refreshers = self.0.refreshers.lock().clone();
        refreshers.iter().for_each(|refresh| refresh(self));
        let mut out = String::new();
        for (name, family) in self.0.families.lock().iter() {
            let kind = family.series.values().next().map_or("untyped", Series::kind);
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (labels, series) in &family.series {
                series.render(&mut out, name, labels);
            }
        }
        out
    }
}

impl Series {
    fn kind(&self) -> &'static str {
        match self {
            Series::Counter(_) | Series::Read(Kind::Counter, _) => "counter",
            Series::Gauge(_) | Series::Read(Kind::Gauge, _) => "gauge",
            Series::Histogram(_) => "histogram",
        }
    }

    fn render(&self, out: &mut String, name: &str, labels: &str) {
        // Writing to a string cannot fail.
        let _ = match self {
            Series::Counter(counter) => writeln!(out, "{name}{labels} {}", counter.get()),
            Series::Gauge(gauge) => writeln!(out, "{name}{labels} {}", gauge.get()),
            Series::Read(_, read) => writeln!(out, "{name}{labels} {}", read()),
            Series::Histogram(histogram) => histogram.render(out, name, labels),
        };
    }
}

impl Histogram {
    fn render(&self, out: &mut String, name: &str, labels: &str) -> std::fmt::Result {
        let open = match labels.strip_suffix('}') {
            Some(labels) => format!("{labels},"),
            None => "{".to_owned(),
        };
        let mut total = 0;
        let bounds = self.0.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, count) in bounds.zip(self.0.counts.iter()) {
            total += count.load(Ordering::Relaxed);
            writeln!(out, "{name}_bucket{open}le=\"{bound}\"}} {total}")?;
        }
        let sum = self.0.sum_micros.load(Ordering::Relaxed) as f64 / 1e6;
        writeln!(out, "{name}_sum{labels} {sum}\n{name}_count{labels} {total}")
    }
}

/// A counter, gauge or histogram, for [`Metrics::publish`].
#[derive(Debug)]
pub struct Published(Series);

impl From<&Counter> for Published {
    fn from(counter: &Counter) -> Published {
        Published(Series::Counter(counter.clone()))
    }
}

impl From<&Gauge> for Published {
    fn from(gauge: &Gauge) -> Published {
        Published(Series::Gauge(gauge.clone()))
    }
}

impl From<&Histogram> for Published {
    fn from(histogram: &Histogram) -> Published {
        Published(Series::Histogram(histogram.clone()))
    }
}

/// One name used for two kinds is a mistake of ours: the second user gets a series nobody sees.
fn report_conflict<T>(name: &str, existing: &Series, unregistered: T) -> T {
    tracing::error!(metric = name, existing = existing.kind(), "two kinds of metric share one name");
    unregistered
}

fn render_labels(labels: &[(&str, &str)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let pairs = labels.iter().map(|(name, value)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
}
