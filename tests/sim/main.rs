//! A federation in one process: servers that agree whatever the network and their users do, and whatever an enemy
//! sends. Each world is drawn from a seed: `SEED=17 cargo test --test sim` runs that one alone, `SEEDS=200` so many.

#![expect(clippy::unwrap_used, reason = "this is how a test fails")]

mod arena;
mod attacks;
mod partial;
mod private;
mod seeds;
mod transactions;
mod visibility;
mod walk;
