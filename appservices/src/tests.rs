//! A server without HTTP, services that are functions, and a clock that stands still.

mod asking;
mod besides;
mod events;
mod fixture;
