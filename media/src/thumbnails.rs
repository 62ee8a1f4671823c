//! Which thumbnail answers a request, and making it once.

use std::time::Duration;

use storage::{Batch, CommitError, Read};

use crate::disk::hex;
use crate::download::{Complete, Download};
use crate::error::MediaError;
use crate::media::{Inner, Media};
use crate::mxc::Mxc;
use crate::render::{RenderSpec, Rendered, render};
use crate::rows::{FILES, MEDIA, MediaInfo, MediaKey, THUMBNAILS, ThumbnailKey, ThumbnailRow};

/// How a thumbnail is made. Client-Server API §Thumbnails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ThumbnailMethod {
    /// The whole image, at least as large as asked for.
    #[default]
    Scale,
    /// The middle of the image in the aspect ratio of the size.
    Crop,
}

/// What a client asks for, in pixels.
#[derive(Clone, Copy, Debug)]
pub struct ThumbnailRequest {
    /// The least width.
    pub width: u32,
    /// The least height.
    pub height: u32,
    /// The method.
    pub method: ThumbnailMethod,
    /// Whether an animation may be returned.
    pub animated: bool,
}

/// A size in which thumbnails are made; its `id` is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    id: u8,
    width: u32,
    height: u32,
    crop: bool,
}

/// The sizes of the specification and the small ones scaled too, smallest first. Each request gets the first that
/// is large enough, so that a media has few thumbnails whatever clients ask for.
const SIZES: [Size; 7] = [
    Size { id: 0, width: 32, height: 32, crop: true },
    Size { id: 6, width: 32, height: 32, crop: false },
    Size { id: 1, width: 96, height: 96, crop: true },
    Size { id: 7, width: 96, height: 96, crop: false },
    Size { id: 2, width: 320, height: 240, crop: false },
    Size { id: 3, width: 640, height: 480, crop: false },
    Size { id: 4, width: 800, height: 600, crop: false },
];

/// The image in its own size: for larger requests, of which only an animation's still needs to be made.
const FULL_SIZE: Size = Size { id: 5, width: u32::MAX, height: u32::MAX, crop: false };

/// The smallest size that covers the request. A crop beyond the crop sizes gets a scaled image, which the client
/// can crop; a small scale request never gets a crop.
fn choose_size(request: &ThumbnailRequest) -> Size {
    let suits = |size: &&Size| {
        (!size.crop || request.method == ThumbnailMethod::Crop)
            && size.width >= request.width
            && size.height >= request.height
    };
    SIZES.iter().find(suits).copied().unwrap_or(FULL_SIZE)
}

impl Media {
    /// Opens a thumbnail, making it if it does not exist; the original where that is smaller or larger sizes were
    /// asked for. `wait` is as for [`Media::download`]. The result always has a content type that browsers show as
    /// an image. Cancel-safe. Client-Server API §`GET /media/thumbnail`.
    ///
    /// # Errors
    /// As [`Media::download`]; `InvalidSize`, `NotThumbnailable`, `ImageTooLarge`, `Interrupted`.
    pub async fn thumbnail(
        &self,
        mxc: &Mxc,
        request: &ThumbnailRequest,
        wait: Duration,
    ) -> Result<Download, MediaError> {
        if request.width == 0 || request.height == 0 {
            return Err(MediaError::InvalidSize);
        }
        let size = choose_size(request);
        let original = self.find_complete(mxc, wait).await?;
        self.note_access(mxc, &original);
        let (server, media_id) = mxc.key();
        let key = (server, media_id, size.id, request.animated);
        let find = || Ok(self.0.store.get(&THUMBNAILS, &key)?);
        let config = self.config();
        let spec = RenderSpec {
            width: size.width,
            height: size.height,
            crop: size.crop,
            animated: request.animated,
            max_pixels: config.max_image_pixels,
            max_animation_pixels: config.max_animation_pixels,
        };
        let make = self.0.make_thumbnail(mxc.key(), &key, &original, spec);
        let row = self.0.thumbnail_flights.find_or_make(key.clone(), find, make).await?;
        self.0.open_thumbnail(row, original).await
    }
}

impl Inner {
    async fn open_thumbnail(&self, row: ThumbnailRow, original: Complete) -> Result<Download, MediaError> {
        let Some((hash, length)) = row.file else {
            let info = MediaInfo { content_type: Some(row.content_type), ..original.info };
            return self.open_file(&original.hash, info).await;
        };
        let extension = row.content_type.rsplit('/').next().unwrap_or_default();
        let info = MediaInfo {
            file_name: Some(format!("thumbnail.{extension}")),
            content_type: Some(row.content_type),
            length,
            sha256: hex(&hash),
            ..original.info
        };
        self.open_file(&hash, info).await
    }

    async fn make_thumbnail(
        &self,
        media: MediaKey,
        key: &ThumbnailKey,
        original: &Complete,
        spec: RenderSpec,
    ) -> Result<ThumbnailRow, MediaError> {
        let path = self.disk.path(&original.hash);
        let rendered = self.tasks.compute("thumbnail", move || render(&path, &spec)).await;
        let mut batch = Batch::new();
        // The media may have been deleted meanwhile.
        batch.expect_equals(&MEDIA, &media, &original.row);
        let committed = match rendered.map_err(|_| MediaError::Interrupted)?? {
            Rendered::Original { content_type } => {
                let row = ThumbnailRow { file: None, content_type: content_type.to_owned() };
                batch.put(&THUMBNAILS, key, &row);
                self.store.commit(batch).await.map(|_| row)
            }
            Rendered::Image { bytes, content_type } => {
                let mut writer = self.new_writer(u64::MAX);
                writer.write(&bytes).await?;
                let (hash, length) = (writer.hash(), writer.length());
                let row = ThumbnailRow { file: Some((hash, length)), content_type: content_type.to_owned() };
                batch.put(&THUMBNAILS, key, &row).add(&FILES, &hash, 1);
                let _guard = self.lock_file(&hash).await;
                writer.place(hash).await?;
                let committed = self.store.commit(batch).await.map(|_| row);
                if matches!(committed, Err(CommitError::Expectation { .. })) {
                    self.remove_if_unused(&hash).await?;
                }
                committed
            }
        };
        committed.map_err(|error| match error {
            CommitError::Expectation { .. } => MediaError::NotFound,
            error => error.into(),
        })
    }
}
