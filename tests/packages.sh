# For the run.sh of suites beside this file: installing what they lack. To be sourced.

need() { # need COMMAND PACKAGE...: installs the Debian packages when the command fails
  local command=$1; shift
  $command >/dev/null 2>&1 && return
  local sudo=; [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get update -qq
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "$@"
}

has_venv() { python3 -c 'import ensurepip, venv'; }
