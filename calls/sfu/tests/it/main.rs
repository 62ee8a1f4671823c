//! The media server over its endpoints.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod validate;
