#!/usr/bin/env bash
# Calls by real clients in a real browser: run.sh PATH_TO_CONDUIT_BINARY [level1|ec|peers|record|all] [--only NAME]
#
#   level1   livekit-client against the media server alone (the example `bare`, which lies beside the binary in examples/);
#            NAME is a part of a scenario's name
#   peers    other people's WebRTC, aiortc (Python), against the media server alone, through the same signalling
#   record   aiortc in a call of a whole server of the binary, which records it; ffprobe and ffmpeg judge the file
#   ec       Element Call as a widget of a small Matrix client, against two servers of the binary; NAME is a part of a
#            call's title: one of Element Call's modes, "two servers", "five people"
#
# Installs what is needed (Debian's Chromium and Node, npm packages) and ends with "N passed, N failed"; exit code 1 when
# anything failed. MODES=pinned-v1,newest-v0 chooses client and connection mode of level1; VERBOSE=1 logs all signalling;
# SHOTS=FOLDER keeps pictures of Element Call. Everything stays on the loopback interface.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}/calls
passed=0 failed=0

usage() { sed -n '2,13p' "$0" | sed 's/^# \?//' >&2; exit 2; }
binary=${1:-} which=all only=
[ $# -gt 0 ] && shift
while [ $# -gt 0 ]; do
  case $1 in
  level1 | ec | peers | record | all) which=$1 ;;
  --only) only=${2:?} && shift ;;
  *) usage ;;
  esac
  shift
done
[ -x "$binary" ] || { echo "run.sh: no executable at '$binary'" >&2; usage; }
binary=$(realpath "$binary")

install() {
  mkdir -p "$work"
  cp -r "$here"/js/. "$work/"
  cp "$here/../clients/js/report.js" "$work/"
  if ! cmp -s "$work/package-lock.json" "$work/installed"; then
    (cd "$work" && npm ci --no-audit --no-fund --loglevel=error)
    cp "$work/package-lock.json" "$work/installed"
  fi
  rm -rf "$work/site"
  cp -r "$here/js/page" "$work/site"
  local version
  for version in pinned newest; do
    mkdir "$work/site/$version"
    cp "$work/node_modules/livekit-client-$version"/dist/livekit-client.{umd.js,e2ee.worker.js} "$work/site/$version/"
  done
}

wait_for() { # wait_for URL PID: until the server answers
  for _ in $(seq 300); do
    if curl -s -o /dev/null "$1"; then return; fi
    kill -0 "$2" 2>/dev/null || return 1
    sleep 0.1
  done
  return 1
}

count() { # count OUTPUT: adds the last line's figures
  local last
  last=$(grep -aE '^[0-9]+ passed, [0-9]+ failed$' "$1" | tail -n 1 || true)
  if [ -z "$last" ]; then
    echo "FAIL the scenarios ended without a result"
    last="0 passed, 1 failed"
  fi
  passed=$((passed + ${last%% *}))
  last=${last#*, }
  failed=$((failed + ${last%% *}))
}

start_bare() { # start_bare DIR OPTION...: the media server alone; sets pid and port
  local bare udp tcp
  bare=$(dirname "$binary")/examples/bare
  [ -x "$bare" ] || { echo "FAIL there is no media server at $bare (cargo build -p sfu --example bare)"; failed=$((failed + 1)); return 1; }
  dir=$1 && shift
  read -r port udp tcp < <(python3 -c 'import socket
s = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
print(*(one.getsockname()[1] for one in s))')
  RUST_LOG=${RUST_LOG:-sfu=info} "$bare" --port "$port" --udp "$udp" --tcp "$tcp" "$@" >"$dir/server" 2>&1 </dev/null &
  pid=$!
  trap 'kill "$pid" 2>/dev/null || true' EXIT
}

run_level1() {
  local pid dir port
  dir=$(mktemp -d "${TMPDIR:-/tmp}/conduit-calls.XXXXXX")
  echo "== livekit-client (logs in $dir)"
  start_bare "$dir" --root "$work/site" || return 0
  if wait_for "http://127.0.0.1:$port/participant.html" "$pid"; then
    SERVER=http://127.0.0.1:$port SERVER_PID=$pid ONLY=$only LOGS=$dir timeout 4000 node "$work/level1.js" </dev/null 2>&1 | tee "$dir/output" || true
    kill -0 "$pid" 2>/dev/null || echo "FAIL the media server ended by itself; see $dir/server" | tee -a "$dir/output"
  else
    echo "FAIL the media server did not come up; see $dir/server" | tee "$dir/output"
  fi
  kill "$pid" 2>/dev/null || true
  trap - EXIT
  count "$dir/output"
}

install_peers() {
  cmp -s "$here/peers/requirements.txt" "$work/peers/installed" && return
  python3 -m venv "$work/peers"
  "$work/peers/bin/pip" install -q -r "$here/peers/requirements.txt"
  cp "$here/peers/requirements.txt" "$work/peers/installed"
}

run_peers() {
  local pid dir port
  dir=$(mktemp -d "${TMPDIR:-/tmp}/conduit-calls.XXXXXX")
  echo "== other people's WebRTC (logs in $dir)"
  install_peers
  start_bare "$dir" --seats 2 || return 0
  if wait_for "http://127.0.0.1:$port/rooms" "$pid"; then
    timeout 600 "$work/peers/bin/python" "$here/peers/meeting.py" "http://127.0.0.1:$port" </dev/null 2>&1 | tee "$dir/output" || true
  else
    echo "FAIL the media server did not come up; see $dir/server" | tee "$dir/output"
  fi
  kill "$pid" 2>/dev/null || true
  trap - EXIT
  count "$dir/output"
}

run_record() {
  local dir
  dir=$(mktemp -d "${TMPDIR:-/tmp}/conduit-calls.XXXXXX")
  echo "== recording (logs in $dir)"
  install_peers
  timeout 600 "$work/peers/bin/python" "$here/peers/recording.py" "$binary" "$dir" </dev/null 2>&1 | tee "$dir/output" || true
  count "$dir/output"
}

run_ec() {
  local dir
  dir=$(mktemp -d "${TMPDIR:-/tmp}/conduit-calls.XXXXXX")
  echo "== Element Call (logs in $dir)"
  BINARY=$binary ONLY=$only LOGS=$dir timeout 2000 node "$work/ec.js" </dev/null 2>&1 | tee "$dir/output" || true
  count "$dir/output"
}

case $which in peers | record) ;; *) install ;; esac
case $which in peers | all) mkdir -p "$work" && run_peers ;; esac
case $which in record | all) mkdir -p "$work" && run_record ;; esac
case $which in level1 | all) run_level1 ;; esac
case $which in ec | all) run_ec ;; esac
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
