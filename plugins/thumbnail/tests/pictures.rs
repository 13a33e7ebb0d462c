//! The handler on real pictures and on bytes that only look like them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use collector_guest::prost::Message;
use collector_guest::rpc::BadRequest;
use collector_guest::{Code, Context, Fault};
use image::GenericImageView;
use thumbnail::Resizer;
use thumbnail::proto::{Format, ResizeReply, ResizeRequest, Thumbnail};

const JPEG: &[u8] = include_bytes!("../../../tests/data/landscape.jpg");
const PNG: &[u8] = include_bytes!("../../../tests/data/bubbles.png");

fn resize(image: &[u8], max_width: u32, max_height: u32, format: Format) -> Result<ResizeReply, Fault> {
    ask(ResizeRequest { image: image.into(), max_width, max_height, format: format.into(), quality: 0 })
}

fn ask(request: ResizeRequest) -> Result<ResizeReply, Fault> {
    Resizer::resize(&Context::new("acme", "thumbnail.v1.Thumbnail", "Resize"), request)
}

/// The field that the fault blames, and its message.
fn blamed(outcome: Result<ResizeReply, Fault>) -> (String, String) {
    let fault = outcome.unwrap_err();
    assert_eq!(fault.code(), Code::InvalidArgument, "{fault}");
    let bad = BadRequest::decode(fault.details()[0].value.as_slice()).unwrap();
    (bad.field_violations[0].field.clone(), fault.message().to_owned())
}

#[test]
fn fits_into_the_box_and_keeps_proportions() {
    let reply = resize(JPEG, 100, 100, Format::Unspecified).unwrap();
    assert_eq!((reply.width, reply.height), (100, 75));
    assert_eq!((reply.source_width, reply.source_height, reply.source_format()), (640, 480, Format::Jpeg));
    let small = image::load_from_memory_with_format(&reply.image, image::ImageFormat::Jpeg).unwrap();
    assert_eq!(small.dimensions(), (100, 75));
    let reply = resize(PNG, 1000, 48, Format::Unspecified).unwrap();
    assert_eq!((reply.width, reply.height, reply.source_format()), (64, 48, Format::Png));
    assert!(reply.image.starts_with(b"\x89PNG"));
}

#[test]
fn never_enlarges() {
    let reply = resize(PNG, 5000, 5000, Format::Png).unwrap();
    assert_eq!((reply.width, reply.height), (640, 480));
}

#[test]
fn looks_like_its_source() {
    let small = resize(JPEG, 64, 64, Format::Png).unwrap().image;
    let small = image::load_from_memory(&small).unwrap().to_rgb8();
    let large = image::load_from_memory(JPEG).unwrap().to_rgb8();
    for (x, y) in [(5, 5), (47, 12), (20, 44)] {
        let (a, b) = (small.get_pixel(x, y).0, large.get_pixel(x * 10 + 5, y * 10 + 5).0);
        let far = a.iter().zip(b).map(|(a, b)| a.abs_diff(b)).max().unwrap();
        assert!(far < 30, "{a:?} and {b:?} at {x},{y}");
    }
}

#[test]
fn jpeg_gets_a_white_ground() {
    let png = image::load_from_memory(PNG).unwrap().to_rgba8();
    let (x, y, _) = png.enumerate_pixels().find(|(_, _, pixel)| pixel.0[3] == 0).unwrap();
    let flat = resize(PNG, 640, 480, Format::Jpeg).unwrap().image;
    let white = image::load_from_memory(&flat).unwrap().to_rgb8().get_pixel(x, y).0;
    assert!(white.iter().all(|colour| *colour > 200), "{white:?}");
}

#[test]
fn quality_makes_it_larger() {
    let with = |quality| {
        let request =
            ResizeRequest { image: JPEG.into(), max_width: 300, max_height: 300, format: Format::Jpeg.into(), quality };
        ask(request).unwrap().image.len()
    };
    assert!(with(10) < with(80) && with(80) < with(100));
    assert_eq!(with(0), with(80));
}

#[test]
fn a_broken_picture_is_the_callers_fault() {
    for (bytes, why) in [
        (b"".as_slice(), "is empty"),
        (b"GIF89a and so on", "is neither PNG nor JPEG"),
        (&PNG[..PNG.len() / 2], "cannot be decoded"),
        (&PNG[..10], "cannot be decoded"),
        (&JPEG[..20], "cannot be decoded"),
    ] {
        let (field, message) = blamed(resize(bytes, 10, 10, Format::Png));
        assert_eq!(field, "image");
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn a_picture_that_claims_too_much_is_refused_before_it_is_decoded() {
    let mut huge = PNG.to_vec();
    huge[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
    let checksum = crc32(&huge[12..29]);
    huge[29..33].copy_from_slice(&checksum.to_be_bytes());
    let (field, message) = blamed(resize(&huge, 10, 10, Format::Png));
    assert_eq!(field, "image");
    assert!(message.contains("65535x65535 is more than 40 megapixels"), "{message}");
}

#[test]
fn sizes_quality_and_format_are_checked() {
    assert_eq!(blamed(resize(PNG, 0, 10, Format::Png)).0, "max_width");
    assert_eq!(blamed(resize(PNG, 10, 0, Format::Png)).0, "max_height");
    let request = ResizeRequest { image: PNG.into(), max_width: 1, max_height: 1, format: 0, quality: 101 };
    assert_eq!(blamed(ask(request.clone())).0, "quality");
    assert_eq!(blamed(ask(ResizeRequest { format: 9, quality: 0, ..request })).0, "format");
}

/// Checksum of a PNG chunk.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
