#!/usr/bin/env bash
# Prometheus' own checker over the metrics of a running server.
#
#   tests/admin/metrics.sh [CONDUIT]     CONDUIT is the program; built if not given
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
command -v promtool >/dev/null || "$root/scripts/setup.sh" metrics
conduit=${1:-}
if [ -z "$conduit" ]; then
  . "$root/scripts/env.sh"
  (cd "$root" && cargo build -q)
  conduit=$CARGO_TARGET_DIR/debug/conduit
fi
work=$(mktemp -d)
pid=
stop() {
  [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap stop EXIT
"$conduit" --set "data_dir=$work/data" --set "listeners=[\"unix:$work/matrix.sock\"]" \
  --set "metrics.listener=unix:$work/metrics.sock" --set registration=open >"$work/log" 2>&1 &
pid=$!
get() { curl -sS --fail --unix-socket "$work/$1.sock" "http://localhost$2"; }
for _ in $(seq 100); do
  get metrics /health >/dev/null 2>&1 && break
  kill -0 "$pid" 2>/dev/null || { cat "$work/log" >&2; exit 1; }
  sleep 0.1
done
# Something to count.
get matrix /_matrix/client/versions >/dev/null
get matrix /health/ready
echo
get metrics /metrics >"$work/metrics.txt"
echo "families: $(grep -c '^# TYPE' "$work/metrics.txt"), series: $(grep -vc '^#' "$work/metrics.txt")"
promtool check metrics <"$work/metrics.txt"
echo "promtool has nothing to say"
