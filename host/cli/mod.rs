//! The command line.

pub mod guest;
