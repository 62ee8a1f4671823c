#!/usr/bin/env bash
# Makes the image of Conduit for Complement: complement/image.sh BINARY [NAME]
set -euo pipefail
binary=${1:?usage: complement/image.sh BINARY [NAME]}
name=${2:-conduit-complement:latest}
here=$(cd "$(dirname "$0")" && pwd)
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT

mkdir -p "$context/root/tmp"
# Symbols stay, so that a backtrace still has names; the line tables would be most of the image.
objcopy --strip-debug "$binary" "$context/root/conduit"
# Every library that the program is linked with, and the loader, at the paths where it looks for them.
ldd "$binary" | grep -o '/[^ ]*' | while read -r library; do
  install -D "$(readlink -f "$library")" "$context/root$library"
done
cp "$here/image/Dockerfile" "$context/"
cp "$here/image/conduit.toml" "$context/root/"
# The classic builder is enough, and is there without a plug-in.
DOCKER_BUILDKIT=0 docker build --quiet --tag "$name" "$context" 2>/dev/null >&2 ||
  DOCKER_BUILDKIT=0 docker build --tag "$name" "$context" >&2
# Earlier versions of the image.
docker image prune --force --filter dangling=true --filter label=conduit_complement=image >/dev/null
echo "$name ($(docker image inspect --format '{{.Size}}' "$name" | numfmt --to=iec))" >&2
