//! How good a connection is, from loss, delay and jitter: the transmission rating of ITU-T G.107 in its
//! simplified form, and the four grades that clients show.

#[cfg(test)]
mod tests;

use std::time::Duration;

/// The grades of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    Lost,
    Poor,
    Good,
    Excellent,
}

/// What was measured over some seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// Share of packets lost, 0 to 1; the worse direction.
    pub loss: f32,
    /// Round-trip time.
    pub rtt: Duration,
    /// Jitter of the arrival times.
    pub jitter: Duration,
    /// Share of the wanted pictures' layers that the line does not carry, 0 to 1.
    pub shortfall: f32,
}

/// The mean opinion score, 1 (unusable) to 4.5.
pub fn score(measured: &Measured) -> f32 {
    let delay_ms = (measured.rtt / 2 + measured.jitter * 2).as_secs_f32() * 1000.0 + 20.0;
    let mut rating = 93.2 - delay_ms / 40.0;
    if delay_ms > 160.0 {
        rating -= (delay_ms - 160.0) / 10.0;
    }
    // Opus hides single lost packets: it takes about half of what G.711 would lose.
    rating -= measured.loss.clamp(0.0, 1.0) * 130.0;
    rating -= measured.shortfall.clamp(0.0, 1.0) * 30.0;
    let rating = rating.clamp(0.0, 100.0);
    // The formula dips below 1 near 0.
    (1.0 + 0.035 * rating + 7e-6 * rating * (rating - 60.0) * (100.0 - rating)).max(1.0)
}

/// The grade of a score.
pub fn grade(score: f32) -> Grade {
    if score >= 4.1 {
        Grade::Excellent
    } else if score >= 3.3 {
        Grade::Good
    } else {
        Grade::Poor
    }
}
