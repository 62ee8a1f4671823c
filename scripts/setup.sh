#!/usr/bin/env bash
# Installs what building and testing need on a fresh Debian 12, and only what is missing.
#
#   scripts/setup.sh              compiler, libclang, ccache, the Rust toolchain
#   scripts/setup.sh clients      also what the tests with real clients need
#   scripts/setup.sh calls        also what the tests of calls in a browser need
#   scripts/setup.sh interop      also what the tests with Synapse need
#   scripts/setup.sh openapi      also what the tests against the OpenAPI definitions need
#   scripts/setup.sh appservices  also what the tests with application services need
#   scripts/setup.sh admin        also what the tests with tools of administrators need
#   scripts/setup.sh metrics      also Prometheus' own checker of metrics
#   scripts/setup.sh deny         also cargo-deny
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

install_packages() { # PACKAGE...: by apt, those that are missing
  command -v dpkg-query >/dev/null || return 0 # not a Debian: the compiler will say what it lacks
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  echo "Installing ${missing[*]}" >&2
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then sudo=(sudo); fi
  "${sudo[@]}" apt-get update -q >&2
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "${missing[@]}" >&2 </dev/null
}

node_packages() { # Node from elsewhere often brings npm with it, and Debian's would not go beside it
  { command -v node && command -v npm; } >/dev/null || echo nodejs npm
}

install_rust() {
  # rustup puts itself there, and a shell without a login does not look there.
  [ -d "$HOME/.cargo/bin" ] && PATH=$HOME/.cargo/bin:$PATH
  if ! command -v cargo >/dev/null; then
    echo "Installing Rust by rustup" >&2
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy >&2
    PATH=$HOME/.cargo/bin:$PATH
  fi
  local wanted have
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
  have=$(rustc --version | cut -d' ' -f2)
  if [ "$(printf '%s\n' "$wanted" "$have" | sort -V | head -1)" != "$wanted" ] && command -v rustup >/dev/null; then
    rustup update stable --no-self-update >&2
  fi
  for component in fmt clippy; do
    cargo "$component" --version >/dev/null 2>&1 || rustup component add "${component/fmt/rustfmt}" >&2
  done
}

install_packages gcc g++ make libc6-dev libclang-dev ccache pkg-config curl ca-certificates git util-linux
install_rust
for extra in "$@"; do
  case $extra in
    clients) install_packages python3 python3-venv python3-dev libolm-dev $(node_packages) ;;
    calls) install_packages chromium firefox-esr $(node_packages) python3 python3-venv openssl ffmpeg iproute2 iptables ;;
    interop) install_packages python3 python3-venv openssl ;;
    openapi) install_packages python3 python3-venv ;;
    appservices) install_packages python3 python3-venv python3-dev libolm-dev ngircd ;;
    admin) install_packages python3 python3-venv $(node_packages) curl prometheus ;;
    metrics) install_packages prometheus ;;
    deny) command -v cargo-deny >/dev/null || cargo install --locked cargo-deny >&2 ;;
    *) echo "scripts/setup.sh: nothing is known of $extra" >&2; exit 2 ;;
  esac
done
