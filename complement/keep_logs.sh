#!/usr/bin/env bash
# Called by the suite before it removes a container: CONTAINER TEST FAILED. In dirty runs it is called
# once for each server of a package, which then may have served failed tests.
set -euo pipefail
container=$1 test=$2 failed=$3
[ "$failed" = true ] || [ "$test" = COMPLEMENT_ENABLE_DIRTY_RUNS ] || exit 0
server=$(docker inspect --format '{{index .Config.Labels "complement_hs_name"}}' "$container")
docker logs "$container" >"$COMPLEMENT_LOGS/${test//[\/ ]/_}.${server:-$container}.log" 2>&1
