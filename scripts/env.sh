# Sourced by the Makefile and by hand: one target folder outside the checkout, and the RocksDB
# library compiled once per machine (scripts/rocksdb.sh).
# rustup puts itself there, and a shell without a login does not look there.
command -v cargo >/dev/null || export PATH=$HOME/.cargo/bin:$PATH
export CONDUIT_CACHE=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CONDUIT_CACHE/target}
rocksdb=$("$(dirname "${BASH_SOURCE[0]}")/rocksdb.sh") || {
  echo "scripts/env.sh: RocksDB was not built; see above" >&2
  return 1
}
export ROCKSDB_LIB_DIR=$rocksdb ROCKSDB_STATIC=1 ROCKSDB_INCLUDE_DIR=$rocksdb/include
if command -v ccache >/dev/null; then export CC="ccache gcc" CXX="ccache g++"; fi
