//! Push against gateways that only record what they are sent.

mod delivery;
mod fixture;
mod told;

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
