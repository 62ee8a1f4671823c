#!/usr/bin/env bash
# Real application services against the server: run.sh PATH_TO_CONDUIT_BINARY
#
# Installs heisenbridge and mautrix from PyPI (outside the checkout, in $CONDUIT_CACHE), the IRC server ngircd and libolm
# from Debian, and starts what is needed on loopback with an empty data folder: a Matrix user and an IRC user talk to
# each other, across a restart of the server and an outage of the bridge; a user and a bot talk in an encrypted room,
# across a restart of each. Exit code 1 when anything failed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
binary=$(realpath "${1:?PATH_TO_CONDUIT_BINARY}")
cache=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}
venv=$cache/appservices/venv

. "$here/../packages.sh"

has_ngircd() { PATH=$PATH:/usr/sbin command -v ngircd; }
has_olm() { [ -e /usr/include/olm/olm.h ]; }

need has_ngircd ngircd
need has_venv python3 python3-venv
need has_olm libolm-dev python3-dev gcc
if ! cmp -s "$here/requirements.txt" "$venv/installed"; then
  echo "Installing heisenbridge and mautrix in $venv" >&2
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/installed"
fi
echo "A bridge to IRC:"
PATH=$PATH:/usr/sbin "$venv/bin/python" -B "$here/bridge.py" "$binary"
echo "A bot that encrypts:"
"$venv/bin/python" -B "$here/encrypted.py" "$binary"
