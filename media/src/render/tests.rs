use std::io::Write as _;

use image::{Delay, ExtendedColorType, GenericImageView as _, Rgb, RgbImage, Rgba};

use super::*;

fn spec(width: u32, height: u32, crop: bool, animated: bool) -> RenderSpec {
    RenderSpec { width, height, crop, animated, max_pixels: 1_000_000, max_animation_pixels: 1_000_000 }
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn gradient(width: u32, height: u32) -> DynamicImage {
    RgbImage::from_fn(width, height, |x, y| Rgb([(x % 256) as u8, (y % 256) as u8, 9])).into()
}

fn animation(frames: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for index in 0..frames {
        let picture = RgbaImage::from_pixel(200, 100, Rgba([index as u8 * 40, 0, 0, 255]));
        encoder.encode_frame(Frame::from_parts(picture, 0, 0, Delay::from_numer_denom_ms(50, 1))).unwrap();
    }
    drop(encoder);
    bytes
}

fn run(bytes: &[u8], spec: RenderSpec) -> Result<Rendered, MediaError> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    render(file.path(), &spec)
}

/// Content type and size of what was rendered.
fn made(bytes: &[u8], spec: RenderSpec) -> (&'static str, (u32, u32)) {
    match run(bytes, spec).unwrap() {
        Rendered::Original { content_type } => (content_type, (0, 0)),
        Rendered::Image { bytes, content_type } => {
            assert_eq!(sniff_content_type(&bytes), Some(content_type));
            (content_type, image::load_from_memory(&bytes).unwrap().dimensions())
        }
    }
}

#[test]
fn every_format_is_scaled_to_cover_and_cropped() {
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Gif] {
        let bytes = encode(&gradient(400, 200), format);
        assert_eq!(made(&bytes, spec(100, 100, false, false)), ("image/jpeg", (200, 100)), "{format:?}");
        assert_eq!(made(&bytes, spec(32, 32, true, false)), ("image/jpeg", (32, 32)), "{format:?}");
    }
}

#[test]
fn nothing_is_enlarged() {
    let bytes = encode(&gradient(50, 200), ImageFormat::Png);
    assert_eq!(made(&bytes, spec(100, 100, false, false)), ("image/png", (0, 0)), "the original is the answer");
    assert_eq!(made(&bytes, spec(96, 96, true, false)), ("image/jpeg", (50, 96)));
    assert_eq!(made(&bytes, spec(u32::MAX, u32::MAX, false, false)), ("image/png", (0, 0)));
}

#[test]
fn transparency_is_kept() {
    let clear = DynamicImage::from(RgbaImage::from_pixel(200, 200, Rgba([1, 2, 3, 40])));
    assert_eq!(made(&encode(&clear, ImageFormat::Png), spec(32, 32, true, false)).0, "image/png");
    let opaque = DynamicImage::from(RgbaImage::from_pixel(200, 200, Rgba([1, 2, 3, 255])));
    assert_eq!(made(&encode(&opaque, ImageFormat::Png), spec(32, 32, true, false)).0, "image/jpeg");
}

#[test]
fn animations_stay_or_become_still() {
    let moving = animation(3);
    let Rendered::Image { bytes, content_type } = run(&moving, spec(32, 32, true, true)).unwrap() else {
        panic!("the original is larger");
    };
    assert_eq!(content_type, "image/gif");
    let frames = GifDecoder::new(std::io::Cursor::new(bytes)).unwrap().into_frames().collect_frames().unwrap();
    assert_eq!((frames.len(), frames[0].buffer().dimensions()), (3, (32, 32)));
    assert_eq!(made(&moving, spec(32, 32, true, false)), ("image/jpeg", (32, 32)));
    assert_eq!(made(&moving, spec(800, 600, false, true)), ("image/gif", (0, 0)));
    assert_eq!(made(&moving, spec(800, 600, false, false)), ("image/jpeg", (200, 100)), "never animated");
    let small_budget = RenderSpec { max_animation_pixels: 40_001, ..spec(32, 32, true, true) };
    assert_eq!(made(&moving, small_budget).0, "image/jpeg");
    assert_eq!(made(&animation(1), spec(800, 600, false, false)), ("image/gif", (0, 0)), "one frame is still");
}

#[test]
fn exif_orientation_is_applied() {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new(&mut bytes);
    // TIFF header, one entry: Orientation (0x0112), SHORT, 6 (rotate by 90 degrees).
    let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
    encoder.set_exif_metadata(exif).unwrap();
    let image = gradient(400, 200).into_rgb8();
    encoder.encode(&image, 400, 200, ExtendedColorType::Rgb8).unwrap();
    assert_eq!(made(&bytes, spec(100, 100, false, false)), ("image/jpeg", (100, 200)));
}

#[test]
fn damaged_and_foreign_content_is_refused() {
    let whole = encode(&gradient(300, 300), ImageFormat::Png);
    let refused = |bytes: &[u8]| matches!(run(bytes, spec(32, 32, true, false)), Err(MediaError::NotThumbnailable));
    assert!(refused(b"") && refused(b"<html>") && refused(b"<svg xmlns='http://www.w3.org/2000/svg'/>"));
    assert!(refused(&whole[..whole.len() / 3]) && refused(&whole[..20]));
    let mut flipped = whole.clone();
    for byte in flipped.iter_mut().skip(40).step_by(7) {
        *byte ^= 0x55;
    }
    assert!(refused(&flipped));
    let moving = animation(3);
    assert!(run(&moving[..moving.len() - 20], spec(32, 32, true, true)).is_err());
}

#[test]
fn huge_images_are_refused_before_they_are_decoded() {
    let bytes = encode(&gradient(1001, 1000), ImageFormat::Png);
    assert!(matches!(run(&bytes, spec(32, 32, true, false)), Err(MediaError::ImageTooLarge)));
    // A PNG header that claims 60,000 x 60,000 pixels; the checksum of the header is right.
    let mut header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
    header.extend(crc32(&header[12..29]).to_be_bytes());
    header.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    assert!(matches!(run(&header, spec(32, 32, true, false)), Err(MediaError::ImageTooLarge)));
}

/// The checksum of PNG chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
