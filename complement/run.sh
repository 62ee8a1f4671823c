#!/usr/bin/env bash
# Runs the acceptance suite Complement, and our own tests of the image: complement/run.sh BINARY
#
# From the environment, all optional:
#   PACKAGES="tests/csapi own"  only these packages (default: all)
#   RUN=TestSync                only tests whose names match
#   CLEAN=1                     new servers for each test (default: the servers of a package are shared)
#   ACCEPT=1                    write the outcomes to results.tsv instead of failing by them
#   ROOM_VERSION=10             another default room version; outcomes are only counted
#   HS2_IMAGE=synapse:latest    another image for the second server; outcomes are only counted
#   LOG=debug                   the log level of the servers
set -euo pipefail
binary=$(realpath "${1:?usage: complement/run.sh BINARY}")
here=$(cd "$(dirname "$0")" && pwd)
export CONDUIT_CACHE=${CONDUIT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/conduit}
module=github.com/matrix-org/complement
left_out="tests/msc2836" # event relationships, a proposal that was given up: no server passes or runs it
mode=dirty
[ -n "${CLEAN:-}" ] && mode=clean
image=conduit-complement:latest
out=$CONDUIT_CACHE/complement/$mode
time_limit=90m # for each package

. "$here/go.sh"
"$here/docker.sh"
"$here/image.sh" "$binary" "$image"

# What the suite and our own tests read.
export COMPLEMENT_BASE_IMAGE=$image COMPLEMENT_POST_TEST_SCRIPT=$here/keep_logs.sh
export COMPLEMENT_SHARE_ENV_PREFIX=FOR_SERVER_
[ "$mode" = dirty ] && export COMPLEMENT_ENABLE_DIRTY_RUNS=1
[ -n "${HS2_IMAGE:-}" ] && export COMPLEMENT_BASE_IMAGE_hs2=$HS2_IMAGE
[ -n "${ROOM_VERSION:-}" ] && export FOR_SERVER_CONDUIT_DEFAULT_ROOM_VERSION=$ROOM_VERSION
[ -n "${LOG:-}" ] && export FOR_SERVER_CONDUIT_LOG__LEVEL=$LOG

pin_upstream() { # the newest version, once; from then on go.mod and go.sum in upstream/ name it
  [ -s "$here/upstream/go.sum" ] && return 0
  echo "Pinning the newest $module" >&2
  # Sums of a dependency's tests are kept only if its tests are fetched; `go mod tidy` would drop them.
  (
    mkdir -p "$here/upstream" && cd "$here/upstream" && rm -f go.mod go.sum && go mod init conduit/complement/upstream &&
      go mod edit -go="$complement_go_version.0" && go get -t "$module/tests/...@main"
  ) >&2 || {
    rm -f "$here/upstream/go.mod" "$here/upstream/go.sum"
    return 1
  }
}

compile() { # FOLDER PACKAGE BINARY
  (cd "$1" && go test -c -o "$3" "$2")
}

run_package() { # NAME BINARY: writes the stream $out/NAME.json
  local stream=$out/${1//\//.}.json
  export COMPLEMENT_LOGS=$out/logs/${1//\//.}
  mkdir -p "$COMPLEMENT_LOGS"
  echo "== $1" >&2
  # Outcomes are judged below, so a failure does not end the run. Tests look for nothing in their folder.
  (cd "$out" && "$2" -test.v=test2json -test.timeout="$time_limit" ${RUN:+-test.run="$RUN"} 2>&1 || true) |
    go tool test2json -p "$1" -t >"$stream"
  streams+=("$1=$stream")
}

list_upstream() { # the packages that have tests, by their path in the module
  (cd "$here/upstream" && go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' "$module/tests/...") |
    sed "s|^$module/||" | grep -vxF "$left_out"
}

rm -rf "$out"
mkdir -p "$out"
streams=() status=0 head=()
wants() { [ -z "${PACKAGES:-}" ] || [[ " $PACKAGES " == *" $1 "* ]]; }

if wants own; then
  compile "$here" ./own "$out/own.test"
  run_package own "$out/own.test"
fi
if [ "${PACKAGES:-}" != own ]; then
  if pin_upstream; then
    head=(-head "Complement $(cd "$here/upstream" && go list -m -f '{{.Version}}' "$module"); no build tags; default room version 11"
      -head "left out: $left_out, a proposal that was given up: no server passes or runs it")
    for package in $(list_upstream); do
      wants "$package" || continue
      test=$out/${package//\//.}.test
      if compile "$here/upstream" "$module/$package" "$test"; then
        run_package "$package" "$test"
        rm -f "$test"
      else
        echo "complement: $package does not compile" >&2
        status=1
      fi
    done
  else
    echo "complement: the suite could not be fetched, so only our own tests ran" >&2
    status=1
  fi
fi

for package in ${PACKAGES:-}; do
  if [[ " ${streams[*]} " != *" $package="* ]]; then
    echo "complement: $package did not run; is there such a package?" >&2
    status=1
  fi
done

compare=("${head[@]}" -results "$here/results.tsv" -mode "$mode" -failures "$out/failures")
[ -n "${ACCEPT:-}" ] && compare+=(-accept)
[ -n "${RUN:-}" ] && compare+=(-partial)
[ -z "${PACKAGES:-}" ] && compare+=(-all)
[ -n "${ROOM_VERSION:-}${HS2_IMAGE:-}" ] && compare+=(-report)
(cd "$here" && go run ./compare "${compare[@]}" "${streams[@]}") || status=1
echo "Output of failed tests: $out/failures; logs of the servers: $out/logs" >&2
exit $status
