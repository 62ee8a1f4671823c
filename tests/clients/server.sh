#!/usr/bin/env bash
# One server for a client scenario, kept in a folder:
#   server.sh prepare DIR BINARY   picks a free loopback port, writes DIR/conduit.toml and DIR/url
#   server.sh start|stop|restart DIR
# stop sends SIGTERM and fails when the server does not end by itself.
set -euo pipefail
what=${1:?} dir=${2:?}

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

prepare() {
  local binary=$1 port
  port=$(free_port)
  mkdir -p "$dir"
  realpath "$binary" >"$dir/binary"
  echo "http://127.0.0.1:$port" >"$dir/url"
  cat >"$dir/conduit.toml" <<TOML
server_name = "localhost:$port"
data_dir = "$dir/data"
listeners = ["127.0.0.1:$port"]
registration = "open"

[admin]
room = false

[rate_limits]
enabled = false
TOML
}

start() {
  local url
  url=$(cat "$dir/url")
  nohup "$(cat "$dir/binary")" run --config "$dir/conduit.toml" >>"$dir/log" 2>&1 </dev/null &
  echo $! >"$dir/pid"
  for _ in $(seq 300); do
    if curl -sf -o /dev/null "$url/_matrix/client/versions"; then return; fi
    if ! kill -0 "$(cat "$dir/pid")" 2>/dev/null; then break; fi
    sleep 0.1
  done
  echo "the server did not come up; the end of its log:" >&2
  tail -n 40 "$dir/log" >&2
  return 1
}

stop() {
  local pid
  pid=$(cat "$dir/pid" 2>/dev/null) || return 0
  rm -f "$dir/pid"
  kill -TERM "$pid" 2>/dev/null || return 0
  for _ in $(seq 300); do
    if ! kill -0 "$pid" 2>/dev/null; then return; fi
    sleep 0.1
  done
  echo "the server did not stop within 30 s of SIGTERM" >&2
  kill -KILL "$pid"
  return 1
}

case $what in
prepare) prepare "${3:?BINARY}" ;;
start) start ;;
stop) stop ;;
restart) stop && start ;;
*) echo "usage: server.sh prepare DIR BINARY | start DIR | stop DIR | restart DIR" >&2; exit 2 ;;
esac
