#!/bin/sh
# A browser in the network namespace MACHINE.
exec ip netns exec "$MACHINE" "$EXECUTABLE" "$@"
