//! What is known of media without any connection: session descriptions, packet headers, layers,
//! loudness, quality. Pure functions and small state machines.

pub mod codec;
pub mod estimate;
pub mod layers;
pub mod munger;
pub mod quality;
pub mod sdp;
pub mod speakers;
pub mod srtp;
