//! What the fuzz targets share: see [`drive`].

mod drive;

pub use drive::{Answer, Fuzzed, Target, guest};
