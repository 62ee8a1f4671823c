//! Previews of URLs: what a page says of itself, and its image (Client-Server API §`GET /media/preview_url`).
//!
//! A page is fetched once for all who ask at the same time, kept for `url_preview_lifetime`, and remembered for a day
//! longer for those who ask for the time when it was fetched. One that cannot be had is not asked for again for some
//! minutes. Nobody can have more than their share of pages fetched (`quota.rs`).

mod charset;
mod fetch;
mod page;
mod quota;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use outbound::Web;
use quick_cache::sync::Cache;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use spec::ids::UserId;
use storage::{Batch, Read};
use tokio::sync::Semaphore;
use url::Url;

use self::fetch::{Fetcher, Kind, Opened};
use self::page::Described;
use self::quota::Quotas;
use crate::disk::Hash;
use crate::error::MediaError;
use crate::flights::Flights;
use crate::media::Media;
use crate::mxc::Mxc;
use crate::render::describe_image;
use crate::rows::{PREVIEWS, PREVIEWS_DUE, PreviewImage, PreviewRow};
use crate::upload::Description;

/// The longest URL, in bytes.
const MAX_URL_BYTES: usize = 4096;
/// How much of a page is read: what describes it stands at its beginning.
const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;
/// How many pages are fetched at a time; further ones wait.
const MAX_RUNNING: usize = 16;
/// How long a preview is remembered that has become stale.
const KEEP_STALE_MS: u64 = 24 * 3600 * 1000;
/// How long a page that cannot be had is not asked for again.
const FAILED_FOR: Duration = Duration::from_secs(5 * 60);
/// Of how many pages that is remembered.
const MAX_FAILED: usize = 10_000;
/// How many due rows are taken out at a time.
const SWEEP_PAGE: usize = 500;

/// Makes previews of URLs; cloning is cheap and clones share everything.
#[derive(Clone)]
pub struct Previews(Arc<Inner>);

struct Inner {
    media: Media,
    web: Arc<dyn Web>,
    flights: Flights<Hash>,
    running: Semaphore,
    quotas: Quotas,
    /// Pages that cannot be had, and until when nobody tries.
    failed: Cache<Hash, Duration>,
}

impl Previews {
    /// Previews whose images become media of `media`, from whose configuration the limits are; `web` fetches pages.
    #[must_use]
    pub fn new(media: Media, web: Arc<dyn Web>) -> Previews {
        Previews(Arc::new(Inner {
            quotas: Quotas::new(media.0.clock.clone()),
            media,
            web,
            flights: Flights::new(),
            running: Semaphore::new(MAX_RUNNING),
            failed: Cache::new(MAX_FAILED),
        }))
    }

    /// The OpenGraph properties of what is at `url`, with the image as `mxc` URI: empty if nothing is known of that
    /// kind of content. `at_ms` (milliseconds since the Unix epoch) prefers what was fetched about then, if that is
    /// still known. What has to be fetched for it counts against what is fetched for `user`. Cancel-safe.
    ///
    /// # Errors
    /// `PreviewsOff`, `InvalidUrl`, `UrlDenied`, `TooManyPreviews`, `PageUnavailable`, `Interrupted`, `Storage`,
    /// `Commit`.
    pub async fn preview(
        &self,
        user: &UserId,
        url: &str,
        at_ms: Option<u64>,
    ) -> Result<Map<String, Value>, MediaError> {
        let media = &self.0.media.0;
        if !self.0.media.config().url_previews {
            return Err(MediaError::PreviewsOff);
        }
        let url = read_url(url)?;
        self.0.fetcher().check(&url)?;
        let key: Hash = Sha256::digest(url.as_str()).into();
        let find = || {
            let row = media.store.get(&PREVIEWS, &key)?;
            Ok(row.filter(|row| row.holds_at(media.clock.now_ms()) || at_ms.is_some_and(|at| row.holds_at(at))))
        };
        if let Some(row) = find()? {
            return Ok(self.0.describe(row));
        }
        if self.0.failed.get(&key).is_some_and(|until| media.clock.monotonic() < until) {
            return Err(MediaError::PageUnavailable);
        }
        let hourly = self.0.media.config().url_preview_hourly_pages;
        let _share = self.0.quotas.take(user, hourly).await?;
        let row = self.0.flights.find_or_make(key, find, self.0.make_or_remember(&key, url)).await?;
        Ok(self.0.describe(row))
    }

    /// Forgets what is stale, with its images, and says how many pages that were. Dropped half-way, a second call goes
    /// on.
    ///
    /// # Errors
    /// `Disk`, `Storage`, `Commit`.
    pub async fn sweep(&self) -> Result<u64, MediaError> {
        let media = &self.0.media.0;
        let mut count = 0;
        loop {
            let now_ms = media.clock.now_ms();
            let due = media.store.scan(&PREVIEWS_DUE, &()).keys().take(SWEEP_PAGE);
            let due = due.take_while(|row| row.as_ref().map_or(true, |(at, ..)| *at <= now_ms));
            let due = due.collect::<Result<Vec<_>, _>>()?;
            let is_last = due.len() < SWEEP_PAGE;
            for row in due {
                self.0.forget(row, now_ms).await?;
                count += 1;
            }
            if is_last {
                return Ok(count);
            }
        }
    }
}

impl PreviewRow {
    fn holds_at(&self, at_ms: u64) -> bool {
        (self.fetched_ms..self.stale_ms).contains(&at_ms)
    }
}

/// A URL that can be fetched, in its normal form and without the fragment, which servers never see.
fn read_url(text: &str) -> Result<Url, MediaError> {
    if text.len() > MAX_URL_BYTES {
        return Err(MediaError::InvalidUrl);
    }
    let mut url = Url::parse(text).map_err(|_| MediaError::InvalidUrl)?;
    url.set_fragment(None);
    Ok(url)
}

impl Inner {
    fn fetcher(&self) -> Fetcher {
        Fetcher::new(self.web.clone(), self.media.0.clock.clone(), &self.media.config())
    }

    async fn make_or_remember(&self, key: &Hash, url: Url) -> Result<PreviewRow, MediaError> {
        self.make(key, url).await.inspect_err(|error| {
            if matches!(error, MediaError::PageUnavailable) {
                self.failed.insert(*key, self.media.0.clock.monotonic().saturating_add(FAILED_FOR));
            }
        })
    }

    /// Fetches a page and its image, and keeps what came of it.
    async fn make(&self, key: &Hash, url: Url) -> Result<PreviewRow, MediaError> {
        let (media, config) = (&self.media.0, self.media.config());
        // Never closed.
        let _running = self.running.acquire().await.map_err(|_| MediaError::Interrupted)?;
        let fetched_ms = media.clock.now_ms();
        let lifetime = u64::try_from(config.url_preview_lifetime.duration().as_millis()).unwrap_or(u64::MAX);
        let stale_ms = fetched_ms.saturating_add(lifetime);
        let due_ms = stale_ms.saturating_add(KEEP_STALE_MS);
        let fetcher = self.fetcher();
        let (properties, picture) = self.read(&fetcher, url).await?;
        let image = match picture {
            None => None,
            Some(picture) => self.keep_image(key, due_ms, picture).await?,
        };
        let media_id = image.as_ref().map(|image| image.media_id.clone()).unwrap_or_default();
        let row = PreviewRow { fetched_ms, stale_ms, properties, image };
        let mut batch = Batch::new();
        batch.put(&PREVIEWS, key, &row).put(&PREVIEWS_DUE, &(due_ms, *key, media_id), &());
        media.store.commit(batch).await?;
        Ok(row)
    }

    /// What a URL says of itself, and the bytes of its image.
    async fn read(&self, fetcher: &Fetcher, url: Url) -> Result<(Vec<(String, String)>, Option<Bytes>), MediaError> {
        let Opened { url, kind, content_type, body } = fetcher.open(url).await?;
        match kind {
            Kind::Other => Ok((Vec::new(), None)),
            Kind::Image => Ok((Vec::new(), Some(fetcher.read(body).await?))),
            Kind::Page => {
                let bytes = fetcher.read_prefix(body, MAX_PAGE_BYTES).await?;
                let reading = move || page::describe(&charset::decode(&bytes, content_type.as_deref()));
                let described = self.media.0.tasks.compute("url preview", reading).await;
                let Described { properties, image } = described.map_err(|_| MediaError::Interrupted)?;
                let image = image.and_then(|image| url.join(&image).ok());
                // A page without its image is still a preview.
                let picture = match image {
                    Some(image) => fetcher.fetch_image(image).await.ok(),
                    None => None,
                };
                Ok((properties, picture))
            }
        }
    }

    /// Stores an image, if it is one that clients can show.
    async fn keep_image(&self, key: &Hash, due_ms: u64, bytes: Bytes) -> Result<Option<PreviewImage>, MediaError> {
        let media = &self.media.0;
        let Some((content_type, width, height)) = describe_image(&bytes) else { return Ok(None) };
        let mxc = media.new_mxc();
        let media_id = mxc.media_id().to_owned();
        // Before the image itself, so that no crash leaves an image that nobody takes out.
        let mut batch = Batch::new();
        batch.put(&PREVIEWS_DUE, &(due_ms, *key, media_id.clone()), &());
        media.store.commit(batch).await?;
        let mut writer = media.new_writer(bytes.len() as u64);
        writer.write(&bytes).await?;
        let about = Description { content_type: Some(content_type.to_owned()), file_name: None };
        media.store_media(&mxc.key(), None, None, writer, about).await?;
        let length = bytes.len() as u64;
        Ok(Some(PreviewImage { media_id, content_type: content_type.to_owned(), width, height, length }))
    }

    fn describe(&self, row: PreviewRow) -> Map<String, Value> {
        let mut answer: Map<String, Value> =
            row.properties.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        let mxc = |id: &str| Mxc::with_server(self.media.0.server_name.clone(), id).ok();
        if let Some((image, mxc)) = row.image.and_then(|image| mxc(&image.media_id).map(|mxc| (image, mxc))) {
            answer.insert("og:image".to_owned(), mxc.to_string().into());
            answer.insert("og:image:type".to_owned(), image.content_type.into());
            answer.insert("og:image:width".to_owned(), image.width.into());
            answer.insert("og:image:height".to_owned(), image.height.into());
            answer.insert("matrix:image:size".to_owned(), image.length.into());
        }
        answer
    }

    async fn forget(&self, due: (u64, Hash, String), now_ms: u64) -> Result<(), MediaError> {
        let media = &self.media.0;
        let (_, key, media_id) = &due;
        if !media_id.is_empty()
            && let Ok(mxc) = Mxc::with_server(media.server_name.clone(), media_id)
        {
            self.media.delete(&mxc).await?;
        }
        let mut batch = Batch::new();
        // The page may have been fetched again since, which has a due row of its own.
        if let Some(row) = media.store.get(&PREVIEWS, key)?
            && row.stale_ms.saturating_add(KEEP_STALE_MS) <= now_ms
        {
            batch.delete(&PREVIEWS, key);
        }
        batch.delete(&PREVIEWS_DUE, &due);
        media.store.commit(batch).await?;
        Ok(())
    }
}
