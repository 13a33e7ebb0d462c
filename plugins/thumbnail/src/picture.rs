//! A decoded picture. Its size is checked before a pixel is decoded: a few hundred bytes can claim gigabytes.

use crate::proto::Format;
use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, Rgb, RgbImage};
use std::io::Cursor;

/// Pixels that are decoded at most: 160 MB as RGBA.
const PIXELS_MAX: u64 = 40_000_000;
/// Bytes that a decoder may hold besides the pixels.
const DECODER_MAX: u64 = 256 << 20;

/// Why a picture is refused, for the caller.
#[derive(Debug)]
pub(crate) struct Reason(pub(crate) String);

pub(crate) struct Picture {
    pub(crate) format: Format,
    pixels: DynamicImage,
}

impl Picture {
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Reason> {
        let unreadable = |error: image::ImageError| Reason(format!("cannot be decoded: {error}"));
        let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
        let mut reader = reader.map_err(|error| Reason(format!("cannot be read: {error}")))?;
        let format = match reader.format() {
            Some(ImageFormat::Png) => Format::Png,
            Some(ImageFormat::Jpeg) => Format::Jpeg,
            _ if bytes.is_empty() => return Err(Reason("is empty".to_owned())),
            _ => return Err(Reason("is neither PNG nor JPEG".to_owned())),
        };
        let mut limits = Limits::default();
        limits.max_alloc = Some(DECODER_MAX);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(unreadable)?;
        check_size(decoder.dimensions())?;
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut pixels = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
        pixels.apply_orientation(orientation);
        Ok(Self { format, pixels })
    }

    /// Width and height.
    pub(crate) fn size(&self) -> (u32, u32) {
        (self.pixels.width(), self.pixels.height())
    }

    /// The largest picture of the same proportions that is inside of the box and no larger than this one.
    pub(crate) fn fit(self, max_width: u32, max_height: u32) -> Self {
        let (width, height) = self.size();
        if width <= max_width && height <= max_height {
            return self;
        }
        Self { pixels: self.pixels.thumbnail(max_width.min(width), max_height.min(height)), format: self.format }
    }

    pub(crate) fn encode(&self, format: Format, quality: u8) -> Result<Vec<u8>, Reason> {
        let mut bytes = Vec::new();
        let written = match format {
            Format::Jpeg => self.over_white().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, quality)),
            Format::Png | Format::Unspecified => self.pixels.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png),
        };
        written.map_err(|error| Reason(format!("cannot be encoded: {error}")))?;
        Ok(bytes)
    }

    /// The picture without transparency.
    fn over_white(&self) -> RgbImage {
        if !self.pixels.color().has_alpha() {
            return self.pixels.to_rgb8();
        }
        let rgba = self.pixels.to_rgba8();
        let mut flat = RgbImage::new(rgba.width(), rgba.height());
        for (to, from) in flat.pixels_mut().zip(rgba.pixels()) {
            let [red, green, blue, alpha] = from.0;
            *to = Rgb([red, green, blue].map(|colour| blend(colour, alpha)));
        }
        flat
    }
}

/// `colour` over white, rounded.
fn blend(colour: u8, alpha: u8) -> u8 {
    let (colour, alpha) = (u32::from(colour), u32::from(alpha));
    u8::try_from((colour * alpha + 255 * (255 - alpha) + 127) / 255).unwrap_or(u8::MAX)
}

fn check_size((width, height): (u32, u32)) -> Result<(), Reason> {
    if u64::from(width) * u64::from(height) > PIXELS_MAX {
        return Err(Reason(format!("{width}x{height} is more than 40 megapixels")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_shows_through() {
        assert_eq!((blend(10, 255), blend(10, 0), blend(0, 128)), (10, 255, 127));
    }

    #[test]
    fn forty_megapixels_are_the_end() {
        assert!(check_size((8000, 5000)).is_ok());
        assert!(check_size((8001, 5000)).is_err());
        assert!(check_size((u32::MAX, u32::MAX)).is_err());
    }
}
