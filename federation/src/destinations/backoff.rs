//! How long a server that failed is left alone.

use std::time::Duration;

use runtime::Random;

/// The longest that a server may ask for itself to be left alone, beyond the configured maximum.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The pause after the `failures`-th failure in a row, in milliseconds: doubled with each one, at
/// most `longest`, and drawn from the upper half of that, so that servers that failed together are
/// not tried together. Never shorter than `retry_after`.
pub(super) fn pause_ms(
    first: Duration,
    longest: Duration,
    failures: u32,
    retry_after: Option<Duration>,
    random: &Random,
) -> u64 {
    let doublings = failures.saturating_sub(1).min(31);
    let full = to_ms(first).saturating_mul(1 << doublings).min(to_ms(longest)).max(1);
    let jittered = full - random.below(full / 2 + 1);
    let asked = retry_after.map_or(0, |asked| to_ms(asked.min(MAX_RETRY_AFTER)));
    jittered.max(asked)
}

fn to_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
