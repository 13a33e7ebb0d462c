//! What the fuzz targets share: see [`drive`].

mod drive;

pub use drive::{Fuzzed, Target};
