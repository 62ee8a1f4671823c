#!/usr/bin/env bash
# Calls by real clients: run.sh PATH_TO_CONDUIT_BINARY [level1|firefox|ec|peers|record|networks|damage|all] [--only NAME]
#
#   level1   livekit-client in browsers against the media server alone (the example `bare`, which lies beside the binary in
#            examples/); NAME is a part of a scenario's name
#   firefox  the same with one of them in Firefox; NAME as above
#   peers    other people's WebRTC through the same signalling: aiortc (Python) against the media server alone, and the
#            `webrtc` crate (Rust) with aiortc in a call of a whole server of the binary
#   record   aiortc in a call of a whole server of the binary, which records it; ffprobe and ffmpeg judge the file
#   networks all of these over IPv6 alone, and behind routers that translate addresses, in network namespaces; NAME is a
#            part of a case's name: "ipv6", "nat". Needs root, iproute2 and iptables
#   damage   a call on a link that loses packets, and on one that gets narrow, in network namespaces, with the generator of
#            bench/calls; NAME is a part of a case's name. Needs root and iproute2
#   ec       Element Call as a widget of a small Matrix client, against two servers of the binary; NAME is a part of a
#            call's title: one of Element Call's modes, "two servers", "five people"
#
# Installs what is needed (Debian's Chromium and Node, npm packages) and ends with "N passed, N failed"; exit code 1 when
# anything failed. MODES=pinned-v1,newest-v0 chooses client and connection mode of level1; VERBOSE=1 logs all signalling;
# SHOTS=FOLDER keeps pictures of Element Call. Everything stays on this machine.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}/calls
passed=0 failed=0

usage() { sed -n '2,19p' "$0" | sed 's/^# \?//' >&2; exit 2; }
binary=${1:-} which=all only=
[ $# -gt 0 ] && shift
while [ $# -gt 0 ]; do
  case $1 in
  level1 | firefox | ec | peers | record | networks | damage | all) which=$1 ;;
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

run_level1() { # run_level1 MODES OPTION...: with these options of the media server
  local pid dir port modes=$1
  shift
  dir=$(mktemp -d "${TMPDIR:-/tmp}/conduit-calls.XXXXXX")
  echo "== livekit-client, $modes (logs in $dir)"
  start_bare "$dir" --root "$work/site" "$@" || return 0
  if wait_for "http://127.0.0.1:$port/participant.html" "$pid"; then
    SERVER=http://127.0.0.1:$port SERVER_PID=$pid MODES=$modes ONLY=$only LOGS=$dir timeout 4000 node "$work/level1.js" </dev/null 2>&1 | tee "$dir/output" || true
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

run_firefox() {
  local own
  # Firefox sends nothing to loopback. What goes to an own address of the machine does not leave it either.
  own=$(python3 -c 'import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("192.0.2.1", 9))
print(s.getsockname()[0])') || { echo "FAIL this machine has no address but loopback, to which Firefox sends nothing"; failed=$((failed + 1)); return 0; }
  run_level1 "${MODES:-firefox-v1,firefox-v0}" --public "$own"
}

build_stranger() { # the participant on the `webrtc` crate, a workspace of its own; sets stranger
  local target=$work/webrtc-rs-target
  command -v cargo >/dev/null || { echo "FAIL there is no cargo to build the participant on the webrtc crate"; failed=$((failed + 1)); return 1; }
  CARGO_TARGET_DIR=$target cargo build -q --locked --manifest-path "$here/peers/webrtc-rs/Cargo.toml" ||
    { echo "FAIL the participant on the webrtc crate was not built"; failed=$((failed + 1)); return 1; }
  stranger=$target/debug/webrtc-rs-peer
}

peers_python() { # peers_python DIR SECONDS SCRIPT ARGUMENT...: a script with aiortc, and what it counts
  local dir=$1 seconds=$2
  shift 2
  PYTHONPATH=$here/peers timeout -k 20 "$seconds" "$work/peers/bin/python" "$@" </dev/null 2>&1 | tee "$dir/output" || true
  count "$dir/output"
}

run_peers() {
  local pid dir port
  dir=$(mktemp -d "${TMPDIR:-/tmp}/conduit-calls.XXXXXX")
  echo "== other people's WebRTC (logs in $dir)"
  install_peers
  if start_bare "$dir" --seats 2; then
    if wait_for "http://127.0.0.1:$port/rooms" "$pid"; then
      peers_python "$dir" 600 "$here/peers/meeting.py" "http://127.0.0.1:$port"
    else
      echo "FAIL the media server did not come up; see $dir/server"
      failed=$((failed + 1))
    fi
    kill "$pid" 2>/dev/null || true
    trap - EXIT
  fi
  if build_stranger; then peers_python "$dir" 600 "$here/peers/strangers.py" "$binary" "$stranger" "$dir"; fi
}

run_record() {
  local dir
  dir=$(mktemp -d "${TMPDIR:-/tmp}/conduit-calls.XXXXXX")
  echo "== recording (logs in $dir)"
  install_peers
  peers_python "$dir" 600 "$here/peers/recording.py" "$binary" "$dir"
}

run_networks() {
  local dir tool
  dir=$(mktemp -d "${TMPDIR:-/tmp}/conduit-calls.XXXXXX")
  echo "== networks (logs in $dir)"
  for tool in ip iptables ip6tables; do
    command -v "$tool" >/dev/null && [ "$(id -u)" = 0 ] && continue
    echo "FAIL network namespaces need root, iproute2 and iptables; there is no $tool, or this is not root"
    failed=$((failed + 1))
    return 0
  done
  install_peers
  build_stranger || return 0
  peers_python "$dir" 1800 "$here/networks/networks.py" "$binary" "$stranger" "$work/abroad.js" "$dir" "$only"
}

run_damage() {
  local dir target=$work/callbench-target bare
  dir=$(mktemp -d "${TMPDIR:-/tmp}/conduit-calls.XXXXXX")
  bare=$(dirname "$binary")/examples/bare
  echo "== damaged networks (logs in $dir)"
  if ! command -v ip >/dev/null || [ "$(id -u)" != 0 ] || [ ! -x "$bare" ]; then
    echo "FAIL damaged networks need root, iproute2 and the media server at $bare"
    failed=$((failed + 1))
    return 0
  fi
  CARGO_TARGET_DIR=$target cargo build -q --release --locked --manifest-path "$here/../../bench/calls/Cargo.toml" ||
    { echo "FAIL the load generator was not built"; failed=$((failed + 1)); return 0; }
  timeout -k 20 900 python3 "$here/damage/damage.py" "$bare" "$target/release/callbench" ${only:+--only "$only"} </dev/null 2>&1 | tee "$dir/output" || true
  count "$dir/output"
}

run_ec() {
  local dir
  dir=$(mktemp -d "${TMPDIR:-/tmp}/conduit-calls.XXXXXX")
  echo "== Element Call (logs in $dir)"
  BINARY=$binary ONLY=$only LOGS=$dir timeout 2000 node "$work/ec.js" </dev/null 2>&1 | tee "$dir/output" || true
  count "$dir/output"
}

case $which in peers | record | damage) ;; *) install ;; esac
case $which in peers | all) mkdir -p "$work" && run_peers ;; esac
case $which in record | all) mkdir -p "$work" && run_record ;; esac
case $which in networks | all) run_networks ;; esac
case $which in damage | all) mkdir -p "$work" && run_damage ;; esac
case $which in level1 | all) run_level1 "${MODES:-pinned-v1,pinned-v0,newest-v1,newest-v0}" ;; esac
case $which in firefox | all) run_firefox ;; esac
case $which in ec | all) run_ec ;; esac
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
