#!/usr/bin/env bash
# Measures what calls cost the media server, beside Debian's Janus (VideoRoom), in turns, on this machine.
#
#   bench/calls/run.sh BINARY                     everything, then writes the table of docs/benchmarks.md
#   bench/calls/run.sh BINARY --only conduit      Conduit alone, beside the last figures of Janus
#   bench/calls/run.sh BINARY --scenario audio    one scenario alone
#   bench/calls/run.sh BINARY --perf FOLDER       what perf records of Conduit in each scenario, and nothing else
#
# BINARY is the example `bare` of the crate sfu: the media server with nothing around it. ROUNDS (5) is how often each server
# has its turn, SECONDS_MEASURED (8) and WARM_UP (4) are for one run, ADDRESS is where the media go (see README.md), GENERATOR the
# load program if it is not to be built.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../servers.sh"
binary=$(realpath "${1:?usage: run.sh BINARY [--only conduit|janus] [--scenario NAME] [--perf FOLDER]}")
shift
only='' perf='' scenario=''
while [ $# -gt 0 ]; do
  case $1 in
    --only) only=${2:?conduit or janus} ;;
    --scenario) scenario=${2:?a scenario} ;;
    --perf) perf=$(realpath -m "${2:?a folder}") only=conduit ;;
    *) echo "unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
rounds=${ROUNDS:-5}
measured=${SECONDS_MEASURED:-8}
warm_up=${WARM_UP:-4}
address=${ADDRESS:-$(hostname -I | awk '{print $1}')}
work=$BENCH/run/calls
results=$BENCH/results
signalling=${CALLS_BENCH_PORT:-6290} # and the three after it
server_pid=
mkdir -p "$work" "$results"

declare -A scenarios=(
  [audio]="--publishers 10 --subscribers 60 --audio"
  [video]="--publishers 4 --subscribers 20 --video 2"
  [meeting]="--publishers 8 --subscribers 8 --audio --video 0,1,2"
  [large]="--publishers 2 --subscribers 90 --audio"
  [half]="--publishers 10 --subscribers 88 --video 2" # a core's half, for the latency
)
order=(audio video meeting large half)
if [ -n "$scenario" ]; then order=("$scenario"); fi

# The generator and the server have a core each, where there are two.
on_server=() on_generator=()
if [ "$(nproc)" -gt 1 ]; then on_server=(taskset -c 0) on_generator=(taskset -c "1-$(($(nproc) - 1))"); fi

start_bare() {
  RUST_LOG=warn "${on_server[@]}" "$binary" --port "$signalling" --udp $((signalling + 1)) --tcp $((signalling + 2)) --public "$address" \
    --root "$work" >"$work/conduit.log" 2>&1 </dev/null &
  server_pid=$!
}

start_janus() { # with what Debian ships, but for the plugins that are not measured
  local conf=$work/janus lib
  lib=$(dirname "$(dirname "$(dpkg -L janus | grep '/plugins/libjanus_videoroom.so$')")")
  rm -rf "$conf"
  mkdir -p "$conf/plugins" "$conf/transports" "$conf/none"
  ln -s "$lib/plugins/libjanus_videoroom.so" "$conf/plugins/"
  ln -s "$lib/transports/libjanus_websockets.so" "$conf/transports/"
  cat >"$conf/janus.jcfg" <<CONF
general: {
  configs_folder = "$conf"
  plugins_folder = "$conf/plugins"
  transports_folder = "$conf/transports"
  events_folder = "$conf/none"
  loggers_folder = "$conf/none"
  debug_level = 2
}
nat: { ice_enforce_list = "$address" }
CONF
  cat >"$conf/janus.transport.websockets.jcfg" <<CONF
general: {
  ws = true
  ws_port = $signalling
  ws_ip = "127.0.0.1"
  json = "compact"
  wss = false
}
admin: { admin_ws = false
  admin_wss = false }
CONF
  echo 'general: { }' >"$conf/janus.plugin.videoroom.jcfg"
  "${on_server[@]}" janus -F "$conf" -C "$conf/janus.jcfg" >"$work/janus.log" 2>&1 </dev/null &
  server_pid=$!
}

stop_server() {
  if [ -z "$server_pid" ]; then return; fi
  kill -INT "$server_pid" 2>/dev/null || true
  for _ in $(seq 50); do
    if ! kill -0 "$server_pid" 2>/dev/null; then break; fi
    sleep 0.1
  done
  kill -KILL "$server_pid" 2>/dev/null || true
  wait "$server_pid" 2>/dev/null || true
  server_pid=
}

await_port() {
  for _ in $(seq 100); do
    if (exec 3<>"/dev/tcp/127.0.0.1/$signalling") 2>/dev/null; then return; fi
    sleep 0.1
  done
  echo "the server does not listen" >&2
  return 1
}

measure() { # measure SERVER SCENARIO: one run; its figures as one line
  local kind=livekit options
  read -ra options <<<"${scenarios[$2]}"
  if [ "$1" = janus ]; then
    kind=janus
    start_janus
  else
    start_bare
  fi
  await_port
  if [ -n "$perf" ]; then record "$2" & fi
  "${on_generator[@]}" "$generator" --server $kind --url "127.0.0.1:$signalling" --address "$address" --pid "$server_pid" \
    --name "$1 $2" --seconds "$measured" --warm-up "$warm_up" "${options[@]}" || echo "$1 $2 failed" >&2
  if [ -n "$perf" ]; then wait "$!" || true; fi
  stop_server
}

record() { # record SCENARIO: what perf sees of the server while the media flow
  local event=cycles
  if ! perf stat -e cycles true 2>&1 | grep -qE '[0-9] +cycles'; then event=cpu-clock; fi
  sleep "$warm_up"
  perf record --quiet -e "$event" -F 999 -g -p "$server_pid" -o "$perf/$1.data" -- sleep "$measured" >&2
  perf report -i "$perf/$1.data" --no-children --stdio --percent-limit 0.5 -g none 2>/dev/null | grep -vE '^#|^$' >"$perf/$1.txt"
}

need python3 python3
need taskset util-linux
if [ "$only" != conduit ]; then need janus janus; fi
if [ -n "$perf" ]; then
  need perf linux-perf
  mkdir -p "$perf"
  rounds=1
fi
generator=${GENERATOR:-}
if [ -z "$generator" ]; then
  cargo build --release --locked --quiet --manifest-path "$here/Cargo.toml" >&2
  generator=$CARGO_TARGET_DIR/release/callbench
fi
trap stop_server EXIT

for name in "${order[@]}"; do
  declare -A out=([conduit]="$results/calls-conduit-$name.jsonl" [janus]="$results/calls-janus-$name.jsonl")
  if [ -n "$perf" ]; then out[conduit]=/dev/null; fi
  turns=(conduit janus)
  if [ -n "$only" ]; then turns=("$only"); fi
  for server in "${turns[@]}"; do : >"${out[$server]}"; done
  for _ in $(seq "$rounds"); do
    for server in "${turns[@]}"; do measure "$server" "$name" >>"${out[$server]}"; done
  done
done
if [ -n "$perf" ]; then exit; fi
describe_machine >"$results/calls-machine.json"
python3 -B "$here/report.py" "$results" "$root/docs/benchmarks.md"
