//! The figures of the program itself, and where those of its parts are shown.

pub(crate) mod process;
pub(crate) mod routes;
mod store;
#[cfg(test)]
mod tests;

use std::time::Duration;

use media::Media;
use rooms::Rooms;
use runtime::{Clock, Metrics, Tasks};
use storage::Store;
use sync::Sync;
use users::Users;

/// How often rooms are counted, which takes a look at each of them.
const COUNT_INTERVAL: Duration = Duration::from_secs(600);

/// What shows its figures only when it is told to.
pub(crate) struct Measured<'a> {
    pub store: &'a Store,
    pub rooms: &'a Rooms,
    pub users: &'a Users,
    pub media: &'a Media,
    pub sync: &'a Sync,
    pub clock: &'a Clock,
}

/// Shows the figures of all parts that do not do it when they are built.
pub(crate) fn publish_metrics(metrics: &Metrics, parts: &Measured<'_>) {
    process::publish(metrics, parts.clock);
    store::publish(metrics, parts.store);
    parts.rooms.publish_metrics(metrics);
    parts.users.publish_metrics(metrics);
    parts.media.publish_metrics(metrics);
    parts.sync.publish_metrics(metrics);
}

/// Counts rooms for their metrics, now and then. May be dropped at any of its awaits.
pub(crate) async fn count_rooms(rooms: Rooms, tasks: Tasks, clock: Clock) {
    loop {
        let counted = rooms.clone();
        match tasks.compute("room count", move || counted.count_rooms()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "rooms were not counted"),
            // A panic is reported where it happens.
            Err(_) => return,
        }
        clock.sleep(COUNT_INTERVAL).await;
    }
}
