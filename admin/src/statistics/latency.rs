//! How long things took, by day: what the histograms of the metrics gain is added to rows of the day.

use std::collections::BTreeMap;

use clap::ValueEnum;
use runtime::text::{TextFamily, quantile, read_exposition};
use storage::{Batch, Read};

use super::follow::Statistics;
use super::rows::LATENCY;
use super::{Day, check_range};
use crate::error::AdminError;

/// Something that takes time. The numbers are part of the stored format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
#[repr(u8)]
pub enum Stretch {
    /// From a request to send until the event is stored.
    Append = 0,
    /// From a request to send until those who wait in `/sync` are answered.
    SendToSync = 1,
    /// From a request to send until another server has taken the event.
    SendToServers = 2,
    /// Computing an answer to `/sync`.
    Sync = 3,
    /// One write to the disk.
    Write = 4,
    /// Resolving the state of a room.
    StateResolution = 5,
}

impl Stretch {
    /// As it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stretch::Append => "request to commit",
            Stretch::SendToSync => "send to sync",
            Stretch::SendToServers => "send to other servers",
            Stretch::Sync => "sync, computing",
            Stretch::Write => "disk write",
            Stretch::StateResolution => "state resolution",
        }
    }

    /// The histogram that measures it.
    #[must_use]
    pub fn metric(self) -> &'static str {
        match self {
            Stretch::Append => "conduit_event_append_seconds",
            Stretch::SendToSync => "conduit_delivery_sync_seconds",
            Stretch::SendToServers => "conduit_delivery_federation_seconds",
            Stretch::Sync => "conduit_sync_compute_seconds",
            Stretch::Write => "conduit_commit_write_seconds",
            Stretch::StateResolution => "conduit_state_resolution_seconds",
        }
    }
}

/// How long something took on a day, or over several.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StretchFigures {
    /// The day, if days are told apart.
    pub day: Option<Day>,
    /// What.
    pub stretch: Stretch,
    /// How often it was measured.
    pub count: u64,
    /// Seconds within which half, nine of ten, and 99 of 100 were done.
    pub quantiles: [Option<f64>; 3],
}

/// By stretch and upper bound in microseconds: how often it took up to that, and longer than the bound below.
type Buckets = BTreeMap<(Stretch, u64), u64>;

/// What the histograms showed when they were last looked at.
#[derive(Default)]
pub(super) struct Measured(Buckets);

impl Measured {
    /// Adds what is new to the rows of a day. Returns what is to be remembered once they are written.
    pub(super) fn add_news(&self, batch: &mut Batch, day: Day, now: &Buckets) -> Measured {
        for ((stretch, bound), count) in now {
            let before = self.0.get(&(*stretch, *bound)).copied().unwrap_or(0);
            if let Ok(news) = i64::try_from(count.saturating_sub(before))
                && news > 0
            {
                batch.add(&LATENCY, &(day, *stretch as u8, *bound), news);
            }
        }
        Measured(now.clone())
    }
}

impl Statistics {
    /// The figures of the server, by name.
    pub(super) fn read_figures(&self) -> Result<BTreeMap<String, TextFamily>, AdminError> {
        read_exposition(&self.parts.metrics.render()).map_err(|reason| {
            tracing::error!(reason, "the metrics cannot be read");
            AdminError::unavailable("the metrics cannot be read; see the log")
        })
    }

    /// What the histograms show.
    pub(super) fn read_buckets(&self) -> Result<Buckets, AdminError> {
        let families = self.read_figures()?;
        let mut buckets = Buckets::new();
        for stretch in Stretch::value_variants() {
            let mut below = 0;
            for (bound, count) in families.get(stretch.metric()).map(TextFamily::buckets).unwrap_or_default() {
                let count = count as u64;
                buckets.insert((*stretch, micros(bound)), count.saturating_sub(below));
                below = count;
            }
        }
        Ok(buckets)
    }

    /// How long things took from one day to another, both included: all together, or each day by itself, without what was
    /// not measured on it.
    ///
    /// # Errors
    /// A range that is too long; storage errors.
    pub fn latency(&self, range: (Day, Day), by_day: bool) -> Result<Vec<StretchFigures>, AdminError> {
        check_range(range)?;
        let mut found: BTreeMap<(Option<Day>, Stretch), BTreeMap<u64, u64>> = BTreeMap::new();
        if !by_day {
            found.extend(Stretch::value_variants().iter().map(|stretch| ((None, *stretch), BTreeMap::new())));
        }
        let scan = self.parts.store.scan(&LATENCY, &());
        for row in scan.from_prefix(&range.0).until_prefix(&range.1.saturating_add(1)).iter() {
            let ((day, stretch, bound), count) = row?;
            // One of a later version.
            let Some(stretch) = Stretch::value_variants().iter().find(|known| **known as u8 == stretch) else {
                continue;
            };
            let buckets = found.entry((by_day.then_some(day), *stretch)).or_default();
            *buckets.entry(bound).or_default() += u64::try_from(count).unwrap_or(0);
        }
        let figures = found.into_iter().map(|((day, stretch), buckets)| {
            let mut below = 0.0;
            let cumulative: Vec<(f64, f64)> = buckets
                .into_iter()
                .map(|(bound, count)| {
                    below += count as f64;
                    (seconds(bound), below)
                })
                .collect();
            let quantiles = [0.5, 0.9, 0.99].map(|q| quantile(&cumulative, q));
            StretchFigures { day, stretch, count: below as u64, quantiles }
        });
        Ok(figures.collect())
    }
}

fn micros(bound: f64) -> u64 {
    if bound.is_finite() { (bound * 1e6).round() as u64 } else { u64::MAX }
}

fn seconds(bound: u64) -> f64 {
    if bound == u64::MAX { f64::INFINITY } else { bound as f64 / 1e6 }
}
