#!/usr/bin/env bash
# Tools of administrators against the server: run.sh PATH_TO_CONDUIT_BINARY [--only synadm|library|bot|replay|metrics]
#
# Installs synadm and matrix-synapse-admin from PyPI and matrix-bot-sdk from npm (outside the checkout, in
# $CONDUIT_CACHE), and starts a server on loopback with an empty data folder for each part. The last line of a part is
# its count; exit code 1 when anything failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$(realpath "${1:?PATH_TO_CONDUIT_BINARY}"); shift
parts="synadm library bot replay metrics"
if [ "${1:-}" = --only ]; then parts=${2:?NAME}; fi
cache=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}/admin
venv=$cache/venv
limit=300 # seconds for one part
work=$(mktemp -d)
pid=

. "$here/../packages.sh"

stop_server() {
  [ -n "$pid" ] || return 0
  kill "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  pid=
}
trap 'stop_server; rm -rf "$work"' EXIT

install_python() {
  need has_venv python3 python3-venv
  cmp -s "$here/requirements.txt" "$venv/installed" && return
  echo "Installing synadm and matrix-synapse-admin in $venv" >&2
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/installed"
}

has_node() { command -v node && command -v npm; }

install_bot() {
  need has_node nodejs npm
  mkdir -p "$cache/bot"
  cp "$here"/bot/*.json "$here"/bot/*.js "$cache/bot/"
  cmp -s "$here/bot/package-lock.json" "$cache/bot/installed" && return
  echo "Installing matrix-bot-sdk in $cache/bot" >&2
  # Without scripts: the only one fetches a library for encryption, which nothing here does.
  (cd "$cache/bot" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
  cp "$here/bot/package-lock.json" "$cache/bot/installed"
}

start_server() { # start_server DIR
  local dir=$1 port
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  mkdir -p "$dir"
  # The library writes room ids with the name of the server, which those of version 12 do not have.
  cat >"$dir/conduit.toml" <<TOML
server_name = "127.0.0.1:$port"
data_dir = "$dir/data"
listeners = ["127.0.0.1:$port"]
registration = "open"
registration_shared_secret = "a secret of the test"
default_room_version = "11"
allow_private_addresses = true

[admin]
suspend_listed_users = true

[server_notices]
localpart = "notices"

[rate_limits]
enabled = false
TOML
  export HOMESERVER=http://127.0.0.1:$port CONDUIT=$binary CONDUIT_CONFIG=$dir/conduit.toml WORK=$dir
  "$binary" run --config "$dir/conduit.toml" >"$dir/log" 2>&1 </dev/null &
  pid=$!
  for _ in $(seq 600); do
    curl -sf -o /dev/null "$HOMESERVER/_matrix/client/versions" && return
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  echo "the server did not come up; the end of its log:" >&2
  tail -n 40 "$dir/log" >&2
  return 1
}

failed=
for part in $parts; do
  echo "== $part"
  case $part in
    synadm) install_python; set -- "$venv/bin/python" -B "$here/with_synadm.py" ;;
    library) install_python; set -- "$venv/bin/python" -B "$here/with_library.py" ;;
    bot) install_bot; set -- node "$cache/bot/moderate.js" ;;
    replay) set -- python3 -B "$here/replay.py" ;;
    metrics) set -- "$here/metrics.sh" "$binary" ;;
    *) echo "run.sh: there is no part $part" >&2; exit 2 ;;
  esac
  [ "$part" = metrics ] || start_server "$work/$part"
  if ! timeout "$limit" "$@"; then
    failed="$failed $part"
    [ "$part" = metrics ] || { echo "--- the end of the server's log" >&2; tail -n 20 "$work/$part/log" >&2; }
  fi
  stop_server
done
[ -z "$failed" ] || { echo "FAILED:$failed"; exit 1; }
echo "passed: $parts"
