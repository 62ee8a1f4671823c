//! How far each application service is behind.

use runtime::Metrics;

use crate::{Dispatcher, Inner};

impl Dispatcher {
    /// Shows what waits for each service whenever metrics are read.
    pub(crate) fn publish_lag(&self, metrics: &Metrics) {
        let dispatcher = self.clone();
        metrics.before_reading(move |metrics| dispatcher.show_lag(metrics));
    }
}

impl Inner {
    fn show_lag(&self, metrics: &Metrics) {
        let visible = self.store.visible();
        for (id, line) in self.lines.read().iter() {
            let (events, behind) = {
                let waiting = line.waiting.lock();
                let oldest = match waiting.events.front() {
                    Some(event) => event.pos,
                    None if waiting.is_live => visible,
                    None => waiting.upto.pos,
                };
                (waiting.events.len(), visible.0.saturating_sub(oldest.0))
            };
            let labels = [("service", id.as_str())];
            let help = "Events that wait in memory for an application service.";
            let gauge = metrics.gauge("conduit_appservice_waiting_events", help, &labels);
            gauge.set(i64::try_from(events).unwrap_or(i64::MAX));
            let help = "Commits since the oldest event that an application service has not taken.";
            let gauge = metrics.gauge("conduit_appservice_behind", help, &labels);
            gauge.set(i64::try_from(behind).unwrap_or(i64::MAX));
        }
    }
}
