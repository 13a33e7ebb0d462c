//! Makes pictures smaller: a plugin that computes, and takes nothing on trust about its input.

mod picture;

use collector_guest::{Context, Fault, log};
use picture::{Picture, Reason};
use proto::{Format, ResizeReply, ResizeRequest, Thumbnail, ThumbnailService};

/// What `proto/thumbnail.proto` says, as Rust.
pub mod proto {
    collector_guest::include_proto!("thumbnail.v1");
}

/// JPEG quality where the caller does not care.
const DEFAULT_QUALITY: u8 = 80;

/// The handler.
pub struct Resizer;

impl Thumbnail for Resizer {
    fn resize(_: &Context, request: ResizeRequest) -> Result<ResizeReply, Fault> {
        let wanted = request.format();
        let quality = check(&request)?;
        let source = Picture::decode(&request.image).map_err(|reason| wrong("image", &reason))?;
        let format = if wanted == Format::Unspecified { source.format } else { wanted };
        let (source_width, source_height) = source.size();
        let small = source.fit(request.max_width, request.max_height);
        let (width, height) = small.size();
        let image = small.encode(format, quality).map_err(|Reason(why)| Fault::internal(why))?;
        log::debug!(
            "{source_width}x{source_height} to {width}x{height}, {} bytes to {}",
            request.image.len(),
            image.len()
        );
        let source_format = small.format.into();
        Ok(ResizeReply { image, width, height, source_width, source_height, source_format })
    }
}

/// Checks all but the picture; returns the JPEG quality to use.
fn check(request: &ResizeRequest) -> Result<u8, Fault> {
    if request.max_width == 0 {
        return Err(wrong("max_width", &Reason("must be at least 1".to_owned())));
    }
    if request.max_height == 0 {
        return Err(wrong("max_height", &Reason("must be at least 1".to_owned())));
    }
    if Format::try_from(request.format).is_err() {
        return Err(wrong("format", &Reason(format!("{} is none of the formats", request.format))));
    }
    match u8::try_from(request.quality) {
        Ok(0) => Ok(DEFAULT_QUALITY),
        Ok(quality) if quality <= 100 => Ok(quality),
        _ => Err(wrong("quality", &Reason("must be at most 100".to_owned()))),
    }
}

fn wrong(field: &str, Reason(why): &Reason) -> Fault {
    Fault::invalid_argument(format!("{field}: {why}")).with_violation(field, why)
}

collector_guest::export!(ThumbnailService<Resizer>);
