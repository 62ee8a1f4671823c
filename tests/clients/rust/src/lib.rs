//! What the scenarios share: devices, the report, encrypted chat and verification.

#![recursion_limit = "256"]

pub mod device;
pub mod report;
pub mod secret;
pub mod verify;

/// The picture that is sent; shared by all client scenarios.
pub const IMAGE: &[u8] = include_bytes!("../../image.png");
