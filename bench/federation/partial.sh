#!/usr/bin/env bash
# Measures a join to a large room whose members come behind it, between Conduits on this machine.
#
#   bench/federation/partial.sh BINARY               a room of 50,000 members, then writes the table of docs/benchmarks.md
#   MEMBERS=2000 bench/federation/partial.sh BINARY  another size: the results are only printed
#
# What is measured stands in partial.py. Results are kept as one JSON object a line in $BENCH/results/partial.jsonl.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../servers.sh"
binary=$(realpath "${1:?usage: partial.sh BINARY}")
members=${MEMBERS:-50000}
need python3 python3
need openssl openssl
python3 -c 'import cryptography' || { echo "it needs the Python package cryptography (Debian: python3-cryptography)" >&2; exit 1; }
mkdir -p "$BENCH/results"
out=$BENCH/results/partial.jsonl
if [ "$members" != 50000 ]; then out=$BENCH/results/partial-part.jsonl; fi
describe_machine >"$out"
echo >>"$out"
CONDUIT_LOG=info timeout "${LIMIT:-1800}" python3 -B "$here/partial.py" --binary "$binary" --members "$members" \
  --work "$BENCH/run/partial" --results "$out"
if [ "$members" = 50000 ]; then python3 -B "$here/partial_report.py" "$out" "$root/docs/benchmarks.md"; fi
