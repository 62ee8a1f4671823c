#!/usr/bin/env bash
# coturn's client programs against the relay: what must work, and what must be refused. See README.md.
#
#   tests/turn/run.sh [SERVE]     SERVE is the built example `serve` of the crate `turn`; built if not given
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
for program in turnutils_uclient turnutils_stunclient turnutils_peer; do
  command -v "$program" >/dev/null || { echo "$program is missing: apt-get install coturn" >&2; exit 2; }
done
serve=${1:-}
if [ -z "$serve" ]; then
  . "$root/scripts/env.sh"
  (cd "$root" && cargo build -q -p turn --example serve)
  serve=$CARGO_TARGET_DIR/debug/examples/serve
fi
port=${PORT:-34780} tls=$((${PORT:-34780} + 1)) echo_port=$((${PORT:-34780} + 2))
work=$(mktemp -d)
pids=()
stop() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  pids=()
}
trap 'stop; rm -rf "$work"' EXIT

start_relay() { # start_relay LINE...: further lines of its configuration
  printf '%s\n' "port = $port" "tls_port = $tls" 'listen = ["127.0.0.1", "::1"]' \
    'relay_addresses = ["127.0.0.1", "::1"]' 'relay_ports = "40000-40199"' 'secret = "north"' \
    'strangers = { per_second = 1000.0, burst = 1000 }' "$@" >"$work/turn.toml"
  "$serve" "$work/turn.toml" >"$work/relay.log" 2>&1 &
  pids+=($!)
  for _ in $(seq 50); do
    if grep -q '^ready' "$work/relay.log"; then return; fi
    sleep 0.1
  done
  echo "the relay did not start:" >&2
  cat "$work/relay.log" >&2
  exit 1
}

passed=0 failed=0
report() { # report NAME STATUS
  if [ "$2" = 0 ]; then passed=$((passed + 1)); echo "ok   $1"; else
    failed=$((failed + 1))
    echo "FAIL $1"
    tail -n 15 "$work/client.log" | sed 's/^/     /'
  fi
}

client() { timeout 40 turnutils_uclient -c -n "${MESSAGES:-10}" -m "${CLIENTS:-3}" -l 170 "$@" >"$work/client.log" 2>&1; }

relays() { # relays NAME ARGUMENT...: all that is sent comes back
  local name=$1 sent=0
  shift
  client "$@" || true
  sent=$((${MESSAGES:-10} * ${CLIENTS:-3}))
  if grep -q "tot_send_msgs=$sent, tot_recv_msgs=$sent" "$work/client.log"; then report "$name" 0; else report "$name" 1; fi
}

refuses() { # refuses NAME CODE ARGUMENT...: an error with this code, and nothing relayed
  local name=$1 code=$2
  shift 2
  client -v "$@" || true
  # The program takes every 401 for a challenge and asks again until it gives up; it names only other codes.
  local sign="error $code"
  if [ "$code" = 401 ]; then sign='error 401\|Cannot complete Allocation'; fi
  if grep -q "$sign" "$work/client.log" && ! grep -q 'tot_recv_msgs=[1-9]' "$work/client.log"; then
    report "$name: $code" 0
  else report "$name: $code" 1; fi
}

known=(-u alice -W north)
# The programs do not give back what they allocate over UDP.
start_relay 'allowed_peers = ["127.0.0.0/8", "::1"]' 'allocations_per_user = 500'
turnutils_peer -L 127.0.0.1 -L ::1 -p "$echo_port" >"$work/peer.log" 2>&1 &
pids+=($!)
sleep 0.3

for ip in 127.0.0.1 ::1; do
  if timeout 10 turnutils_stunclient -p "$port" "$ip" >"$work/client.log" 2>&1 &&
    grep -q 'reflexive addr' "$work/client.log"; then report "$ip STUN binding" 0; else report "$ip STUN binding" 1; fi
  family=(-X)
  if [ "$ip" = ::1 ]; then family=(-x); fi
  to=("${known[@]}" "${family[@]}" -e "$ip" -r "$echo_port")
  relays "$ip UDP, channels" "${to[@]}" -p "$port" "$ip"
  relays "$ip UDP, Send indications" "${to[@]}" -s -p "$port" "$ip"
  relays "$ip UDP, unfragmented" "${to[@]}" -g -p "$port" "$ip"
  relays "$ip TCP, channels" "${to[@]}" -t -p "$port" "$ip"
  relays "$ip TCP, Send indications" "${to[@]}" -t -s -p "$port" "$ip"
  relays "$ip TLS, channels" "${to[@]}" -t -S -p "$tls" "$ip"
  relays "$ip TLS, Send indications" "${to[@]}" -t -S -s -p "$tls" "$ip"
  # Pairs of clients (an even number of them) whose peers are each other's relay addresses.
  CLIENTS=4 relays "$ip UDP, client to client" "${known[@]}" "${family[@]}" -y -p "$port" "$ip"
done
relays 'extra requests, renewed' "${known[@]}" -X -G -e 127.0.0.1 -r "$echo_port" -p "$port" 127.0.0.1

CLIENTS=1
refuses 'forged: another secret' 401 -u alice -W south -X -e 127.0.0.1 -r "$echo_port" -p "$port" 127.0.0.1
refuses 'forged: a made-up password' 401 -u 4000000000:alice -w guess -X -e 127.0.0.1 -p "$port" 127.0.0.1
expired=$(($(date +%s) - 10)):alice
password=$(printf %s "$expired" | openssl dgst -sha1 -hmac north -binary | base64)
refuses 'expired credentials' 401 -u "$expired" -w "$password" -X -e 127.0.0.1 -p "$port" 127.0.0.1
fresh=$(($(date +%s) + 60)):alice
password=$(printf %s "$fresh" | openssl dgst -sha1 -hmac north -binary | base64)
relays 'a user name and password made elsewhere' -u "$fresh" -w "$password" -X -e 127.0.0.1 -r "$echo_port" -p "$port" 127.0.0.1
refuses 'a private peer' 403 "${known[@]}" -X -e 10.0.0.7 -p "$port" 127.0.0.1
refuses 'a link-local peer' 403 "${known[@]}" -X -e 169.254.169.254 -p "$port" 127.0.0.1
refuses 'an IPv4 peer in the form of IPv6' 403 "${known[@]}" -x -e ::ffff:127.0.0.1 -p "$port" 127.0.0.1
refuses 'a private IPv6 peer' 403 "${known[@]}" -x -e fd00::1 -p "$port" 127.0.0.1
refuses 'the relay itself as peer' 403 "${known[@]}" -X -e 127.0.0.1 -r "$port" -p "$port" 127.0.0.1

stop
# At least the seven tries of each of the two forgers, and one of the expired.
if [ "$(sed -n 's/^conduit_turn_refused_total{code="401"} //p' "$work/relay.log")" -ge 15 ]; then
  report 'the relay counted them as 401' 0
else report 'the relay counted them as 401' 1; fi
start_relay 'allocations_per_user = 2'
refuses 'a loopback peer that nobody allowed' 403 "${known[@]}" -X -e 127.0.0.1 -r "$echo_port" -p "$port" 127.0.0.1
CLIENTS=4 refuses 'more allocations than a user may have' 486 "${known[@]}" -X -y -p "$port" 127.0.0.1

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
