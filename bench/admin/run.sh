#!/usr/bin/env bash
# Measures what administering an organisation costs a Conduit binary, on this machine.
#
#   bench/admin/run.sh BINARY             everything, then writes the tables of docs/benchmarks.md
#   USERS=300 ROOMS=60 EVENTS=1000 bench/admin/run.sh BINARY    another size: the results are only printed
#
# The steps are those of README.md. Results are kept as one JSON object a line in $BENCH/results/admin.jsonl.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../servers.sh"
trap stop_conduit EXIT

binary=$(realpath "${1:?usage: run.sh BINARY}")
sizes=(--users "${USERS:-10000}" --rooms "${ROOMS:-2000}" --events "${EVENTS:-20000}")
need python3 python3
need curl curl
mkdir -p "$BENCH/results" "$BENCH/run"
out=$BENCH/results/admin.jsonl
if [ "${sizes[*]}" != "--users 10000 --rooms 2000 --events 20000" ]; then out=$BENCH/results/admin-part.jsonl; fi

step() { # step NAME: one step of bench.py with the running server
  timeout "${STEP_LIMIT:-1500}" python3 -B "$here/bench.py" "$1" "${sizes[@]}" --binary "$binary" --data "$conduit_data" \
    --base "$conduit_url" --pid "$conduit_pid" --organisation "$BENCH/run/organisation.json" | tee -a "$out"
}

restart() {
  stop_conduit
  launch_conduit "$binary"
}

start_conduit "$binary"
cat >"$out" <<JSON
{"run": {"date": "$(date -u +%Y-%m-%d)", "version": "$("$binary" --version)", "load": "$(cut -d' ' -f1-3 /proc/loadavg)", "machine": $(describe_machine)}}
JSON
step import
step furnish
restart
step listings
step history
restart
step purge
restart
step afterwards
step again
restart
step unseen
restart
step space
echo "{\"end\": {\"load\": \"$(cut -d' ' -f1-3 /proc/loadavg)\"}}" >>"$out"
stop_conduit
if [ "$out" = "$BENCH/results/admin.jsonl" ]; then python3 -B "$here/report.py" "$out" "$root/docs/benchmarks.md"; fi
