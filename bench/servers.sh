# Sourced by the scripts of this folder: builds the load driver, starts and stops what is measured.
# Everything listens on loopback; all that is written goes to $BENCH, by default below $CONDUIT_CACHE.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/env.sh"
export BENCH=${BENCH:-$CONDUIT_CACHE/bench}
shared_bench=${SHARED_BENCH:-$root/../shared/bench}
conduit_port=${CONDUIT_BENCH_PORT:-6197}
conduit_url=http://127.0.0.1:$conduit_port
conduit_data=$BENCH/run/conduit/data
conduit_pid=

need() { # need COMMAND PACKAGE...: installs the Debian packages when the command is missing
  local command=$1 sudo=()
  shift
  if command -v "$command" >/dev/null; then return; fi
  if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
  "${sudo[@]}" apt-get update -qq >&2
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qqy "$@" >&2 </dev/null
}

build_hsload() { # sets HSLOAD
  local target=$CONDUIT_CACHE/bench/hsload
  CARGO_TARGET_DIR=$target cargo build --release --locked --quiet --manifest-path "$shared_bench/hsload/Cargo.toml" >&2
  HSLOAD=$target/release/hsload
}

start_conduit() { # start_conduit BINARY [KEY=VALUE...]: with empty data; sets conduit_pid
  rm -rf "$BENCH/run/conduit"
  launch_conduit "$@"
}

launch_conduit() { # launch_conduit BINARY [KEY=VALUE...]: with the data that is there; sets conduit_pid
  local binary=$1 set=()
  shift
  mkdir -p "$conduit_data"
  for pair in "server_name=localhost:$conduit_port" "listeners=[\"127.0.0.1:$conduit_port\"]" "data_dir=$conduit_data" \
    registration=open durability=always rate_limits.enabled=false admin.room=false log.level=warn "$@"; do
    set+=(--set "$pair")
  done
  CONDUIT_CONFIG=/dev/null "$binary" run "${set[@]}" >>"$BENCH/run/conduit/log" 2>&1 </dev/null &
  conduit_pid=$!
  await_server "$conduit_url" "$conduit_pid" || {
    tail -n 40 "$BENCH/run/conduit/log" >&2
    return 1
  }
}

stop_conduit() {
  if [ -z "$conduit_pid" ]; then return; fi
  kill -TERM "$conduit_pid" 2>/dev/null || true
  wait "$conduit_pid" 2>/dev/null || echo "the server ended with $?" >&2
  conduit_pid=
}

await_server() { # await_server URL PID
  for _ in $(seq 600); do
    if curl -sf -o /dev/null "$1/_matrix/client/versions"; then return; fi
    if ! kill -0 "$2" 2>/dev/null; then break; fi
    sleep 0.1
  done
  echo "$1 does not answer" >&2
  return 1
}

resident_mib() { # resident_mib PID
  awk '/^VmRSS:/ {printf "%.1f", $2 / 1024}' "/proc/$1/status"
}

describe_machine() { # cores, memory and kernel as one JSON object
  local cpu
  cpu=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1)
  awk -v cores="$(nproc)" -v cpu="$cpu" -v kernel="$(uname -r)" \
    '/^MemTotal:/ {printf "{\"cores\": %d, \"memory_gib\": %.0f, \"cpu\": \"%s\", \"kernel\": \"%s\"}", cores, $2 / 1048576, cpu, kernel}' \
    /proc/meminfo
}
