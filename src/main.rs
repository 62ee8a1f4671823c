//! The `conduit` program; everything is in the library, so that tests can use it too.

use std::process::ExitCode;

/// Also serves RocksDB. Its settings are compiled in by `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    conduit::run_command_line()
}
