//! The Matrix rules as pure code: identifiers, canonical JSON, hashes and signatures, redaction, PDU
//! format, authorisation, state resolution and push rules, for room versions 1 to 12.
//!
//! Invariants: nothing here reads a clock, draws a random number, touches storage or awaits. Every
//! function is a pure function of its arguments.

pub mod acl;
pub mod auth;
pub mod canonical;
pub mod hash;
pub mod ids;
pub mod json;
pub mod pdu;
pub mod policy;
pub mod policy_list;
pub mod power;
pub mod push;
pub mod redact;
pub mod signing;
pub mod state_res;
pub mod version;
pub mod xmatrix;
