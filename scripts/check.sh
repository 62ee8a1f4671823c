#!/usr/bin/env bash
# What CI runs: format, lints, tests (with them the generated files and the layers), documentation.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/env.sh

started=$SECONDS
step() { # TITLE COMMAND...
  echo "== $1 (after $((SECONDS - started)) s)"
  shift
  "$@"
}
# Workspaces of their own that use our crates: their lock files hold what those depend on.
check_locks() {
  local manifest
  for manifest in fuzz bench/federation/floor; do
    cargo metadata --locked --format-version 1 --quiet --manifest-path "$manifest/Cargo.toml" >/dev/null
  done
}
step "format" cargo fmt --all -- --check
step "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
step "tests" make test
step "lock files" check_locks
step "documentation" env RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items --locked
echo "== all is well (after $((SECONDS - started)) s)"
