//! Calls with a media server that only records what it is told.

mod ends;
mod fixture;
mod joins;
mod leaves;
mod operate;
mod recording;
mod rings;
