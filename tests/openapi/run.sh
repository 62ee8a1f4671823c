#!/usr/bin/env bash
# Property tests of the client API against the specification's OpenAPI definitions: run.sh [OPTION...] PATH_TO_CONDUIT_BINARY
#
# Installs schemathesis from PyPI (outside the checkout, in $CONDUIT_CACHE), starts the binary with an empty data folder on loopback
# and tries every operation. The definitions are no part of the checkout: $SPEC_API or --api names the folder `data/api` of the
# specification (without it: ../shared/spec/api beside the checkout). Options (all: run.sh --help):
#   --only PATTERNS   operation ids, for example --only 'get*,sync'
#   --examples N      drawn requests of each operation, and a third as many invalid ones
#   --seed N          what is drawn
# Ends with what was reached and "N failed"; exit code 1 when anything failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}
venv=$cache/openapi/venv

. "$here/../packages.sh"

if ! cmp -s "$here/requirements.txt" "$venv/installed"; then
  need has_venv python3 python3-venv
  echo "Installing schemathesis in $venv" >&2
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check --only-binary :all: -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/installed"
fi

# What it keeps for itself is written there, not into the current folder.
export HYPOTHESIS_STORAGE_DIRECTORY=$cache/openapi/hypothesis
"$venv/bin/python" -B "$here/selftest.py" -q
exec nice -n 10 "$venv/bin/python" -B "$here/openapi.py" "$@"
