//! Details of a status that somebody else wrote: a guest, or a peer.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::HeaderMap;

/// Where gRPC puts a status' details. Source: PROTOCOL-HTTP2.md, Status-Details.
pub(super) const DETAILS: &str = "grpc-status-details-bin";

/// Base64 as gRPC writes it: padded or not.
const ANY_PADDING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether headers or trailers can be given to `Status::from_header_map`: tonic 0.14 panics on details that are no base64.
pub(super) fn are_sound(headers: &HeaderMap) -> bool {
    headers.get_all(DETAILS).iter().all(|value| ANY_PADDING.decode(value.as_bytes()).is_ok())
}

/// Takes out of headers or trailers what is not sound.
pub(super) fn defuse(headers: &mut HeaderMap) {
    if !are_sound(headers) {
        headers.remove(DETAILS);
    }
}
