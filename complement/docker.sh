#!/usr/bin/env bash
# Makes sure that a Docker engine answers: installs the one of Debian and starts it where none runs.
#
#   complement/docker.sh          start the engine if none answers
#   complement/docker.sh stop     end the engine that this script started, and no other
#
# An engine started here keeps everything in $CONDUIT_CACHE/docker, with its log in dockerd.log.
# What it cannot do without is root; images and containers need neither a registry nor a mount.
set -euo pipefail
state=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}/docker
log=$state/dockerd.log
pidfile=$state/dockerd.pid
start_limit=40 # seconds for each storage driver

answers() { docker info >/dev/null 2>&1; }

started_here() { # whether the process in our pid file is (still) a dockerd
  [ -s "$pidfile" ] && tr '\0' ' ' 2>/dev/null <"/proc/$(cat "$pidfile")/cmdline" | grep -q dockerd
}

install_engine() {
  command -v dockerd >/dev/null && command -v docker >/dev/null && return 0
  if ! command -v apt-get >/dev/null; then
    echo "complement/docker.sh: no Docker engine, and no apt-get to install one" >&2
    exit 1
  fi
  echo "Installing docker.io" >&2
  apt-get update -q >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends docker.io iptables >&2 </dev/null
}

use_working_iptables() { # the kernel may know only one of the two rule formats
  iptables -t nat -L -n >/dev/null 2>&1 && return 0
  for variant in legacy nft; do
    if "iptables-$variant" -t nat -L -n >/dev/null 2>&1; then
      update-alternatives --set iptables "/usr/sbin/iptables-$variant" >&2
      return 0
    fi
  done
  echo "complement/docker.sh: neither iptables-nft nor iptables-legacy works here; containers would have no network" >&2
  exit 1
}

try_driver() { # DRIVER: true when the engine answers
  echo "== $(date -Is) dockerd with $1" >>"$log"
  dockerd --data-root "$state/data" --exec-root "$state/exec" --pidfile "$pidfile" --storage-driver "$1" \
    >>"$log" 2>&1 </dev/null &
  local engine=$!
  for ((i = 0; i < start_limit * 5; i++)); do
    answers && return 0
    kill -0 "$engine" 2>/dev/null || return 1 # it gave up: the reason is in the log
    sleep 0.2
  done
  kill "$engine" 2>/dev/null || true
  wait "$engine" 2>/dev/null || true
  return 1
}

start_engine() {
  [ "$(id -u)" -eq 0 ] || { echo "complement/docker.sh: no Docker engine answers, and only root can start one" >&2; exit 1; }
  install_engine
  answers && return 0 # the package may have started its service
  mkdir -p "$state"
  use_working_iptables
  for driver in overlay2 vfs; do
    if try_driver "$driver"; then
      echo "Docker engine started ($driver); its log is $log" >&2
      disown -a
      return 0
    fi
  done
  echo "complement/docker.sh: the engine does not start; the end of $log:" >&2
  tail -5 "$log" >&2
  exit 1
}

case ${1:-start} in
  start) answers || start_engine ;;
  stop)
    if started_here; then
      kill "$(cat "$pidfile")"
      echo "Docker engine asked to stop" >&2
    fi
    ;;
  *) echo "usage: complement/docker.sh [start|stop]" >&2; exit 2 ;;
esac
