//! Decoding, resizing and encoding images: pure computation on a file. Runs on the compute pool.

use std::fs::File;
use std::io::{BufReader, Cursor};
use std::path::Path;

use fast_image_resize::images::Image;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use image::codecs::gif::{GifDecoder, GifEncoder, Repeat};
use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{PngDecoder, PngEncoder};
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{
    AnimationDecoder as _, DynamicImage, ExtendedColorType, Frame, Frames, ImageDecoder as _, ImageEncoder as _,
    ImageError, ImageFormat, ImageReader, Limits, RgbaImage,
};

use crate::error::MediaError;

/// The quality of JPEG thumbnails, of 100.
const JPEG_QUALITY: u8 = 85;

/// The speed of the search for GIF palettes, from 1 (best) to 30.
const GIF_SPEED: i32 = 20;

/// What to make of an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RenderSpec {
    pub width: u32,
    pub height: u32,
    pub crop: bool,
    pub animated: bool,
    pub max_pixels: u64,
    pub max_animation_pixels: u64,
}

/// What was made of it.
#[derive(Debug)]
pub(crate) enum Rendered {
    /// The original is small enough.
    Original {
        content_type: &'static str,
    },
    Image {
        bytes: Vec<u8>,
        content_type: &'static str,
    },
}

/// The content type of an image, by its first bytes.
pub(crate) fn sniff_content_type(head: &[u8]) -> Option<&'static str> {
    image::guess_format(head).ok().and_then(content_type_of)
}

fn content_type_of(format: ImageFormat) -> Option<&'static str> {
    match format {
        ImageFormat::Png => Some("image/png"),
        ImageFormat::Jpeg => Some("image/jpeg"),
        ImageFormat::Gif => Some("image/gif"),
        ImageFormat::WebP => Some("image/webp"),
        _ => None,
    }
}

fn refuse(error: ImageError) -> MediaError {
    match error {
        ImageError::Limits(_) => MediaError::ImageTooLarge,
        _ => MediaError::NotThumbnailable,
    }
}

fn open(path: &Path) -> Result<BufReader<File>, MediaError> {
    File::open(path).map(BufReader::new).map_err(MediaError::disk("open a media file"))
}

/// Makes a thumbnail of the image at `path`.
pub(crate) fn render(path: &Path, spec: &RenderSpec) -> Result<Rendered, MediaError> {
    let mut reader =
        ImageReader::new(open(path)?).with_guessed_format().map_err(MediaError::disk("read a media file"))?;
    let format = reader.format().ok_or(MediaError::NotThumbnailable)?;
    let content_type = content_type_of(format).ok_or(MediaError::NotThumbnailable)?;
    let mut limits = Limits::no_limits();
    // Up to 8 bytes per pixel decoded, and as much for the decoder itself.
    limits.max_alloc = Some(spec.max_pixels.saturating_mul(16));
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(refuse)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > spec.max_pixels {
        return Err(MediaError::ImageTooLarge);
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let plan = Plan::new(oriented_size((width, height), orientation), spec);
    if plan.is_none() || spec.animated {
        // Only here does it matter whether the image moves.
        let is_animated = detect_animation(path, format)?;
        if plan.is_none() && (spec.animated || !is_animated) {
            return Ok(Rendered::Original { content_type });
        }
        if let Some(plan) = plan.filter(|_| is_animated)
            && let Some(bytes) = render_animation(read_frames(path, format)?, &plan, spec.max_animation_pixels)?
        {
            return Ok(Rendered::Image { bytes, content_type: "image/gif" });
        }
    }
    let mut image = DynamicImage::from_decoder(decoder).map_err(refuse)?;
    image.apply_orientation(orientation);
    render_still(image, plan)
}

/// The content type, width and height of an image, by its head.
pub(crate) fn describe_image(bytes: &[u8]) -> Option<(&'static str, u32, u32)> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok()?;
    let content_type = content_type_of(reader.format()?)?;
    let mut decoder = reader.into_decoder().ok()?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let (width, height) = oriented_size(decoder.dimensions(), orientation);
    Some((content_type, width, height))
}

fn oriented_size((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    match orientation {
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH => {
            (height, width)
        }
        _ => (width, height),
    }
}

/// Which part of the source becomes an image of which size.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Plan {
    /// Left, top, width and height of the part, in source pixels.
    part: (f64, f64, f64, f64),
    width: u32,
    height: u32,
}

impl Plan {
    /// The smallest image that covers the wanted size, cut to it if cropping. Never enlarges: where the source is
    /// smaller in one dimension, it keeps its size; none if it stays as it is. Client-Server API §Thumbnails.
    fn new((width, height): (u32, u32), spec: &RenderSpec) -> Option<Self> {
        let (source_width, source_height) = (f64::from(width), f64::from(height));
        let factor = (f64::from(spec.width) / source_width).max(f64::from(spec.height) / source_height).min(1.0);
        // The product is at most the source's own size, and never 0 after the maximum.
        let scaled = |length: f64| (length * factor).round().max(1.0) as u32;
        let mut plan = Self {
            part: (0.0, 0.0, source_width, source_height),
            width: scaled(source_width).min(width),
            height: scaled(source_height).min(height),
        };
        if spec.crop {
            plan.width = plan.width.min(spec.width);
            plan.height = plan.height.min(spec.height);
            let part_width = (f64::from(plan.width) / factor).min(source_width);
            let part_height = (f64::from(plan.height) / factor).min(source_height);
            plan.part =
                ((source_width - part_width) / 2.0, (source_height - part_height) / 2.0, part_width, part_height);
        }
        ((plan.width, plan.height) != (width, height)).then_some(plan)
    }

    fn resize(&self, pixels: Vec<u8>, size: (u32, u32), kind: PixelType) -> Result<Vec<u8>, MediaError> {
        let source = Image::from_vec_u8(size.0, size.1, pixels, kind).map_err(|_| MediaError::NotThumbnailable)?;
        let mut target = Image::new(self.width, self.height, kind);
        let (left, top, width, height) = self.part;
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
            .crop(left, top, width, height);
        Resizer::new().resize(&source, &mut target, &options).map_err(|_| MediaError::NotThumbnailable)?;
        Ok(target.into_vec())
    }
}

/// Resizes and encodes one picture: JPEG, or PNG where something is transparent.
fn render_still(image: DynamicImage, plan: Option<Plan>) -> Result<Rendered, MediaError> {
    let source_size = (image.width(), image.height());
    let (width, height) = plan.map_or(source_size, |plan| (plan.width, plan.height));
    let has_alpha = image.color().has_alpha();
    let (pixels, kind) = if has_alpha {
        (image.into_rgba8().into_raw(), PixelType::U8x4)
    } else {
        (image.into_rgb8().into_raw(), PixelType::U8x3)
    };
    let mut pixels = match plan {
        Some(plan) => plan.resize(pixels, source_size, kind)?,
        None => pixels,
    };
    let mut bytes = Vec::new();
    if has_alpha {
        let (quads, _) = pixels.as_chunks::<4>();
        if quads.iter().any(|[.., alpha]| *alpha != u8::MAX) {
            let encoder = PngEncoder::new(&mut bytes);
            encoder.write_image(&pixels, width, height, ExtendedColorType::Rgba8).map_err(refuse)?;
            return Ok(Rendered::Image { bytes, content_type: "image/png" });
        }
        pixels = quads.iter().flat_map(|[red, green, blue, _]| [*red, *green, *blue]).collect();
    }
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
    encoder.encode(&pixels, width, height, ExtendedColorType::Rgb8).map_err(refuse)?;
    Ok(Rendered::Image { bytes, content_type: "image/jpeg" })
}

fn detect_animation(path: &Path, format: ImageFormat) -> Result<bool, MediaError> {
    Ok(match format {
        ImageFormat::Png => PngDecoder::new(open(path)?).and_then(|decoder| decoder.is_apng()).map_err(refuse)?,
        ImageFormat::WebP => WebPDecoder::new(open(path)?).map_err(refuse)?.has_animation(),
        ImageFormat::Gif => {
            let frames = GifDecoder::new(open(path)?).map_err(refuse)?.into_frames();
            frames.take(2).filter(Result::is_ok).count() == 2
        }
        _ => false,
    })
}

fn read_frames(path: &Path, format: ImageFormat) -> Result<Frames<'static>, MediaError> {
    let file = open(path)?;
    match format {
        ImageFormat::Png => Ok(PngDecoder::new(file).and_then(PngDecoder::apng).map_err(refuse)?.into_frames()),
        ImageFormat::WebP => Ok(WebPDecoder::new(file).map_err(refuse)?.into_frames()),
        ImageFormat::Gif => Ok(GifDecoder::new(file).map_err(refuse)?.into_frames()),
        _ => Err(MediaError::NotThumbnailable),
    }
}

/// Makes an animated GIF; none if the animation has more than `max_pixels`.
fn render_animation(frames: Frames<'_>, plan: &Plan, max_pixels: u64) -> Result<Option<Vec<u8>>, MediaError> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, GIF_SPEED);
    encoder.set_repeat(Repeat::Infinite).map_err(refuse)?;
    let mut pixels = 0u64;
    for frame in frames {
        let frame = frame.map_err(refuse)?;
        let delay = frame.delay();
        let picture = frame.into_buffer();
        let size = picture.dimensions();
        pixels = pixels.saturating_add(u64::from(size.0) * u64::from(size.1));
        if pixels > max_pixels {
            return Ok(None);
        }
        let resized = plan.resize(picture.into_raw(), size, PixelType::U8x4)?;
        let picture = RgbaImage::from_raw(plan.width, plan.height, resized).ok_or(MediaError::NotThumbnailable)?;
        encoder.encode_frame(Frame::from_parts(picture, 0, 0, delay)).map_err(refuse)?;
    }
    drop(encoder);
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
