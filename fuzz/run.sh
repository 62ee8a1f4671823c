#!/usr/bin/env bash
# Builds and runs the fuzz targets on the stable toolchain, each for a bounded time.
#
#   fuzz/run.sh                       every target, one minute each
#   fuzz/run.sh pdu tokens            only these
#   SECONDS_EACH=600 fuzz/run.sh pdu  longer
#   fuzz/run.sh pdu --input FILE      one input again, such as the one that failed
#
# The corpus grows in $CONDUIT_CACHE/fuzz/corpus; inputs that failed are kept in
# $CONDUIT_CACHE/fuzz/artifacts and make this script fail. The flags are those of `cargo fuzz run
# --sanitizer none`: coverage is LLVM's own, and without a sanitizer no nightly compiler is needed. The
# code under test has no `unsafe` for a sanitizer to watch.
set -euo pipefail
cd "$(dirname "$0")"
. ../scripts/env.sh
work=$CONDUIT_CACHE/fuzz
export CARGO_TARGET_DIR=$work/target
host=$(rustc -vV | sed -n 's/^host: //p')

input= targets=() options=()
while [ $# -gt 0 ]; do
  case $1 in
    --input) input=$(realpath "$2"); shift 2 ;;
    --calls-only) options+=(--no-default-features --features calls); shift ;; # and only those of calls
    --spec-only) options+=(--no-default-features); shift ;; # leaves out what needs RocksDB
    *) targets+=("$1"); shift ;;
  esac
done

llvm=(-sanitizer-coverage-level=4 -sanitizer-coverage-inline-8bit-counters -sanitizer-coverage-pc-table
  -sanitizer-coverage-trace-compares -simplifycfg-branch-fold-threshold=0)
RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module"
for flag in "${llvm[@]}"; do RUSTFLAGS+=" -Cllvm-args=$flag"; done
export RUSTFLAGS
# A named --target keeps the flags away from build scripts and macros.
cargo build --release --locked --target "$host" "${options[@]}" --bins >&2

binaries=$CARGO_TARGET_DIR/$host/release
if [ ${#targets[@]} -eq 0 ]; then
  for source in fuzz_targets/*.rs; do
    target=$(basename "$source" .rs)
    if [ -x "$binaries/$target" ]; then targets+=("$target"); fi
  done
fi
if [ -n "$input" ]; then exec "$binaries/${targets[0]}" "$input"; fi

failed=()
for target in "${targets[@]}"; do
  mkdir -p "$work/corpus/$target" "$work/artifacts/$target"
  echo "== $target, ${SECONDS_EACH:-60} s"
  seeds=()
  if [ -d "seeds/$target" ]; then seeds=("seeds/$target"); fi
  dictionary=()
  if [ -f "seeds/$target.dict" ]; then dictionary=("-dict=seeds/$target.dict"); fi
  log=$work/$target.log
  if ! "$binaries/$target" "$work/corpus/$target" "${seeds[@]}" "${dictionary[@]}" \
    -artifact_prefix="$work/artifacts/$target/" -max_total_time="${SECONDS_EACH:-60}" -timeout=10 \
    -max_len=70000 -rss_limit_mb=2048 -print_final_stats=1 >"$log" 2>&1; then
    failed+=("$target")
    tail -n 40 "$log"
  fi
  grep -E '^(stat::number_of_executed_units|stat::average_exec_per_sec|Done)' "$log" || true
done
if [ ${#failed[@]} -gt 0 ]; then
  echo "failed: ${failed[*]}; the inputs are in $work/artifacts" >&2
  exit 1
fi
