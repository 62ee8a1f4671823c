//! What is known of media without any connection: session descriptions, packet headers, layers,
//! loudness, quality. Pure functions and small state machines.

pub mod bandwidth;
pub mod codec;
pub mod given;
pub mod kept;
pub mod layers;
pub mod munger;
pub mod packet;
pub mod quality;
pub mod rtcp;
pub mod sdp;
pub mod shortage;
pub mod speakers;
pub mod srtp;
