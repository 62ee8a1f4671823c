//! What the content repository counts. Counting costs a relaxed addition; [`Media::publish_metrics`] makes it seen.

use runtime::{Counter, Metrics};

use crate::media::Media;

/// The figures of media.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    uploads: Stream,
    fetches: Stream,
    downloads: Stream,
}

/// A number of media and their bytes.
#[derive(Debug, Default)]
struct Stream {
    count: Counter,
    bytes: Counter,
}

impl Stream {
    fn add(&self, bytes: u64) {
        self.count.add(1);
        self.bytes.add(bytes);
    }
}

impl Meters {
    /// A media was stored: of a user of this server, or else fetched.
    pub fn count_stored(&self, is_uploaded: bool, bytes: u64) {
        if is_uploaded { self.uploads.add(bytes) } else { self.fetches.add(bytes) }
    }

    /// A file was opened for somebody.
    pub fn count_download(&self, bytes: u64) {
        self.downloads.add(bytes);
    }
}

impl Media {
    /// Shows the figures of media.
    pub fn publish_metrics(&self, metrics: &Metrics) {
        let meters = &self.0.meters;
        let streams = [("uploaded", &meters.uploads), ("fetched", &meters.fetches), ("downloaded", &meters.downloads)];
        for (what, stream) in streams {
            let help = "Media that users uploaded, that were fetched from elsewhere, and that somebody was given.";
            metrics.publish("conduit_media_total", help, &[("what", what)], &stream.count);
            let help = "Bytes of those media.";
            metrics.publish("conduit_media_bytes_total", help, &[("what", what)], &stream.bytes);
        }
        let gauges = ["local", "remote"].map(|origin| {
            let count = metrics.gauge("conduit_media_stored", "Media that are here.", &[("origin", origin)]);
            let help = "Bytes of media that are here, thumbnails not counted.";
            (count, metrics.gauge("conduit_media_stored_bytes", help, &[("origin", origin)]))
        });
        let media = self.clone();
        metrics.before_reading(move |_| {
            // Where the store fails, the figures stay.
            let Ok(usage) = media.server_usage() else { return };
            for ((count, bytes), usage) in gauges.iter().zip([usage.local, usage.remote]) {
                count.set(i64::try_from(usage.count).unwrap_or(i64::MAX));
                bytes.set(i64::try_from(usage.bytes).unwrap_or(i64::MAX));
            }
        });
    }
}
