#!/usr/bin/env bash
# Measures a Conduit binary beside Synapse on PostgreSQL, one after the other, on this machine.
#
#   bench/run.sh BINARY                  both, then writes the tables of docs/benchmarks.md
#   bench/run.sh BINARY --only conduit   Conduit alone, beside the last figures of Synapse
#   bench/run.sh BINARY --only synapse
#
# Conduit is measured twice: with the same parameters as Synapse, and with ten times as many operations, because CPU
# time is counted in steps of 10 ms and many of its phases cost less than that can resolve.
# Results are kept as one JSON object a line in $BENCH/results.
set -euo pipefail
cd "$(dirname "$0")"
. ./servers.sh

binary=$(realpath "${1:?usage: run.sh BINARY [--only conduit|synapse]}")
only=
if [ "${2:-}" = --only ]; then only=${3:?--only conduit or synapse}; fi
results=$BENCH/results
mkdir -p "$results"
idle_secs=10

same=(-c 16 --ops 50 --users 30 --messages 1000 --rooms 50 --history 20 --requests 30 --fanout-messages 100 --rate 5
  --page-events 1000 --passes 10 --state-events 500 --secs 20 --room-version 11)
# The same rooms and members, and ten times the operations.
longer=(-c 16 --ops 500 --users 30 --messages 10000 --rooms 50 --history 20 --requests 300 --fanout-messages 300
  --rate 15 --page-events 1000 --passes 100 --state-events 500 --secs 20 --room-version 11)

measure() { # measure LABEL URL PIDS VERSION PARAMETER...
  local label=$1 url=$2 pids=$3 version=$4 out=$results/$1.jsonl idle
  shift 4
  sleep "$idle_secs"
  idle=$(sum_resident "$pids")
  echo "measuring $label, $idle MiB resident when idle" >&2
  cat >"$out" <<JSON
{"label": "$label", "run": {"date": "$(date -u +%Y-%m-%d)", "version": "$version", "idle_rss_mib": $idle, "load": "$(cut -d' ' -f1-3 /proc/loadavg)", "machine": $(describe_machine), "command": "hsload $* all"}}
JSON
  timeout 1800 "$HSLOAD" --label "$label" --base "$url" --pid "$pids" "$@" all >>"$out" || echo "hsload ended with $?" >&2
  echo "{\"label\": \"$label\", \"end\": {\"rss_mib\": $(sum_resident "$pids"), \"load\": \"$(cut -d' ' -f1-3 /proc/loadavg)\"}}" >>"$out"
}

sum_resident() { # sum_resident PID,PID: with their children
  local pid child sum=0
  for pid in ${1//,/ }; do
    for child in "$pid" $(pgrep -P "$pid" || true); do
      if [ -r "/proc/$child/status" ]; then sum="$sum + $(resident_mib "$child")"; fi
    done
  done
  awk "BEGIN {printf \"%.1f\", $sum}"
}

measure_conduit() { # measure_conduit LABEL PARAMETER...
  local label=$1
  shift
  start_conduit "$binary" "sync.connections_per_device=512"
  measure "$label" "$conduit_url" "$conduit_pid" "$("$binary" --version)" "$@"
  stop_conduit
}

measure_synapse() {
  need psql postgresql
  bash "$shared_bench/synapse.sh" setup >&2
  bash "$shared_bench/synapse.sh" start pg >"$BENCH/synapse.pids"
  local python=$BENCH/synapse-venv/bin/python version
  version=$("$python" -c 'from importlib.metadata import version; print("Synapse", version("matrix-synapse"))')
  version+=" on PostgreSQL $(psql --version | awk '{print $3}')"
  measure synapse http://127.0.0.1:8009 "$(tail -n 1 "$BENCH/synapse.pids")" "$version" "${same[@]}"
  bash "$shared_bench/synapse.sh" stop pg >&2
}

stop_all() {
  stop_conduit
  if [ "$only" != conduit ]; then bash "$shared_bench/synapse.sh" stop pg >/dev/null 2>&1 || true; fi
}
trap stop_all EXIT

need python3 python3
need curl curl
need pgrep procps
build_hsload
if [ "$only" != synapse ]; then
  measure_conduit conduit "${same[@]}"
  measure_conduit conduit-longer "${longer[@]}"
fi
if [ "$only" != conduit ]; then
  need pip3 python3-venv python3-pip
  measure_synapse
fi

tables=()
for label in conduit synapse; do
  if [ -f "$results/$label.jsonl" ]; then tables+=("$results/$label.jsonl"); fi
done
"$HSLOAD" --table "${tables[@]}" >"$results/table.md"
cat "$results/table.md"
python3 -B report.py speed "$results" "$root/docs/benchmarks.md"
