#!/usr/bin/env bash
# Federation between real servers on loopback: run.sh [OPTION...] PATH_TO_CONDUIT_BINARY
#
# Installs Synapse from PyPI (outside the checkout, in $CONDUIT_CACHE), makes a certificate authority, starts the servers
# with empty data folders and runs the scenarios. Without --first and --second: Conduit with Synapse, then Conduit with
# Conduit, each with a third server where a scenario needs one. Some options (all: run.sh --help):
#   --first KIND --second KIND --third KIND   which servers, `conduit` or `synapse`; two Synapses need no binary
#   --only PATTERNS --skip PATTERNS           scenarios or subjects, for example --only 'moderation,invite_*'
#   --versions 6,10,11,12  --ways both|forth|back  --outage SECONDS  --jobs N  --work FOLDER  --list
# Then, unless --only is given: encrypted chat of Rust clients across each pair (`run.sh encrypted PATH`: only that).
# Ends with a table and "N passed, N failed" for each pair; exit code 1 when anything failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}
venv=${SYNAPSE_VENV:-$cache/interop/venv}

. "$here/../packages.sh"

install_synapse() {
  need "openssl version" openssl
  need has_venv python3 python3-venv
  cmp -s "$here/requirements.txt" "$venv/installed" && return
  echo "Installing Synapse in $venv" >&2
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/installed"
}

interop() { "$venv/bin/python" -B "$here/interop.py" "$@"; }

build_clients() {
  need "cmake --version" cmake
  need "cc --version" gcc
  # The SDK declares a newer compiler than the server needs, but builds with the server's.
  (cd "$here/../clients/rust" && CARGO_TARGET_DIR=$cache/target-clients \
    nice -n 10 cargo build --locked --ignore-rust-version --bin federated_scenario)
}

encrypted() { # BINARY: real clients, one on each server
  local status=0 second
  build_clients || return 1
  for second in synapse conduit; do
    echo "== Encrypted chat, Conduit with ${second^}"
    "$venv/bin/python" -B "$here/encrypted.py" --second "$second" \
      "$cache/target-clients/debug/federated_scenario" "$1" || status=1
  done
  return "$status"
}

[ -n "${SYNAPSE_VENV:-}" ] || install_synapse
case " $* " in
  " encrypted "*) encrypted "${@: -1}" ;;
  *" --first"* | *" --second"* | *" --list "* | *" --help "* | *" -h "*) interop "$@" ;;
  *)
    status=0
    echo "== Conduit with Synapse"
    interop --first conduit --second synapse "$@" || status=1
    echo "== Conduit with Conduit"
    interop --first conduit --second conduit "$@" || status=1
    case " $* " in *" --only"*) ;; *) encrypted "${@: -1}" || status=1 ;; esac
    exit "$status"
    ;;
esac
