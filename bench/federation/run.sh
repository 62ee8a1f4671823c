#!/usr/bin/env bash
# Measures what federation costs a Conduit binary and Synapse on PostgreSQL, one after the other, on this machine.
#
#   bench/federation/run.sh BINARY                    everything, then writes the table of docs/benchmarks.md
#   bench/federation/run.sh BINARY --only conduit     Conduit alone, beside the last figures of Synapse
#   bench/federation/run.sh BINARY --only synapse
#   bench/federation/run.sh BINARY --perf FOLDER      what perf records of Conduit, and nothing else
#
# A small homeserver on loopback (origin.py) sends the events and serves the room that is joined. Results are kept as
# one JSON object a line in $BENCH/results/federation-*.jsonl. The size of a run is set by EVENTS, LONGER and MEMBERS.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../servers.sh"
binary=$(realpath "${1:?usage: run.sh BINARY [--only conduit|synapse] [--perf FOLDER]}")
shift
only='' perf=''
while [ $# -gt 0 ]; do
  case $1 in
    --only) only=${2:?conduit or synapse} ;;
    --perf) perf=$(realpath -m "${2:?a folder}") only=conduit ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
events=${EVENTS:-1000}    # as many as Synapse takes in within some minutes
longer=${LONGER:-10000}   # Conduit only: CPU time is counted in steps of 10 ms
members=${MEMBERS:-5000 50000}
work=$BENCH/run/federation
results=$BENCH/results
mkdir -p "$results"
export SYNAPSE_LOG=WARNING CONDUIT_LOG=info

measure() { # measure RESULTS_FILE WHAT OPTION...
  local out=$1
  shift
  "$BENCH/synapse-venv/bin/python" -B "$here/bench.py" "$@" --binary "$binary" --work "$work" --results "$out"
}

measure_conduit() {
  local out=$results/federation-conduit.jsonl
  if [ -z "$perf" ]; then : >"$out"; else out=/dev/null; fi
  local rooms count
  for rooms in 1 10; do
    if [ -z "$perf" ]; then measure "$out" incoming --servers conduit --rooms "$rooms" --events "$events"; fi
    measure "$out" incoming --servers conduit --rooms "$rooms" --events "$longer" --label longer ${perf:+--perf "$perf"}
    if [ -z "$perf" ]; then
      "$CARGO_TARGET_DIR/release/floor" "$work/events.jsonl" "$work/public-key" >"$results/federation-floor.json"
    fi
  done
  for count in $members; do
    measure "$out" join --servers conduit --members "$count" ${perf:+--perf "$perf"}
  done
}

measure_synapse() {
  local out=$results/federation-synapse.jsonl rooms count
  : >"$out"
  for rooms in 1 10; do measure "$out" incoming --servers synapse --rooms "$rooms" --events "$events"; done
  for count in $members; do measure "$out" join --servers synapse --members "$count"; done
}

measure_forks() { # the shortest of five runs: what else the machine does only makes them longer
  (cd "$root" && cargo build --release --locked --quiet -p rooms --example forks >&2)
  for _ in 1 2 3 4 5; do "$CARGO_TARGET_DIR/release/examples/forks" 10000 20; done >"$results/federation-forks.txt"
}

need python3 python3
need openssl openssl
need psql postgresql
bash "$shared_bench/synapse.sh" setup >&2
pg_ctlcluster 15 bench start 2>/dev/null || true
trap 'pg_ctlcluster 15 bench stop -m fast || true' EXIT
cargo build --release --locked --quiet --manifest-path "$here/floor/Cargo.toml" >&2
if [ "$only" != synapse ]; then measure_conduit; fi
if [ -n "$perf" ]; then exit; fi
if [ "$only" != conduit ]; then measure_synapse; fi
measure_forks
describe_machine >"$results/federation-machine.json"
python3 -B "$here/report.py" "$results" "$root/docs/benchmarks.md"
