//! One conformance suite, run on every backend.

#![allow(clippy::unwrap_used, reason = "functions called by tests are tests too")]

/// Runs each test function on a fresh bed of every backend.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        mod memory { $(#[test] fn $name() { super::$name(&crate::bed::Bed::memory()); })* }
        mod rocks { $(#[test] fn $name() { super::$name(&crate::bed::Bed::rocks()); })* }
    };
}

mod bed;
mod commits;
mod crashes;
mod reads;
mod restarts;
