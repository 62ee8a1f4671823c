#!/usr/bin/env bash
# Packets relayed for each second of CPU time, by this relay and by Debian's coturn, under the same load in one run.
#
#   bench/turn/run.sh [SERVE]    SERVE is the example `serve` of the crate `turn`, built with --release
#
# turnutils_uclient sends through the relay to turnutils_peer, which sends everything back: each message is relayed
# twice. The two servers take turns, ROUNDS times each; the table has their medians. CPU time is that of the server's
# process (user and system, /proc/PID/stat) between the start and the end of the client. SESSIONS, MESSAGES, LENGTH and
# INTERVAL (ms between the messages of a session) set the load.
# Over TLS turnutils_uclient takes one record for one message: of frames that leave in one record it counts the first,
# the others as lost.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
for program in turnserver turnutils_uclient turnutils_peer openssl; do
  command -v "$program" >/dev/null || { echo "$program is missing: apt-get install coturn" >&2; exit 2; }
done
serve=${1:-}
if [ -z "$serve" ]; then
  . "$root/scripts/env.sh"
  (cd "$root" && cargo build -q --release -p turn --example serve)
  serve=$CARGO_TARGET_DIR/release/examples/serve
fi
rounds=${ROUNDS:-5} sessions=${SESSIONS:-40} messages=${MESSAGES:-1000} length=${LENGTH:-170} interval=${INTERVAL:-5}
work=$(mktemp -d)
pids=()
trap 'for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true; rm -rf "$work"' EXIT

cat >"$work/turn.toml" <<END
listen = ["127.0.0.1"]
port = 34780
tls_port = 34781
relay_addresses = ["127.0.0.1"]
relay_ports = "40000-43999"
secret = "north"
allowed_peers = ["127.0.0.0/8"]
allocations_per_user = 4000
allocations = 4000
user_bandwidth = "0"
bandwidth = "0"
strangers = { per_second = 10000.0, burst = 10000 }
END
"$serve" "$work/turn.toml" >"$work/conduit.log" 2>&1 &
conduit=$!
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
  -keyout "$work/key.pem" -out "$work/cert.pem" 2>"$work/openssl.log"
cat >"$work/turnserver.conf" <<END
listening-ip=127.0.0.1
listening-port=34790
tls-listening-port=34791
cert=$work/cert.pem
pkey=$work/key.pem
relay-ip=127.0.0.1
min-port=44000
max-port=47999
use-auth-secret
static-auth-secret=north
realm=conduit.test
allow-loopback-peers
no-dtls
no-cli
relay-threads=1
pidfile=$work/turnserver.pid
log-file=$work/turnserver.log
simple-log
END
turnserver -c "$work/turnserver.conf" >"$work/coturn.log" 2>&1 &
coturn=$!
turnutils_peer -L 127.0.0.1 -p 34800 >"$work/peer.log" 2>&1 &
pids=("$conduit" "$coturn" $!)
sleep 2

ticks() { # CPU time of a process, in clock ticks
  local stat
  stat=$(<"/proc/$1/stat")
  # shellcheck disable=SC2086
  set -- ${stat##*) }
  echo $((${12} + ${13}))
}

hz=$(getconf CLK_TCK)
load() { # load NAME PID PORT WAY OPTION...: one line of results
  local name=$1 pid=$2 port=$3 way=$4 before after received sent
  shift 4
  before=$(ticks "$pid")
  timeout 120 turnutils_uclient -c -X -u bench -W north -e 127.0.0.1 -r 34800 -p "$port" -m "$sessions" \
    -n "$messages" -l "$length" -z "$interval" "$@" 127.0.0.1 >"$work/client.log" 2>&1 || true
  after=$(ticks "$pid")
  sent=$(sed -n 's/.*tot_send_msgs=\([0-9]*\), tot_recv_msgs.*/\1/p' "$work/client.log" | tail -n 1)
  received=$(sed -n 's/.*tot_recv_msgs=\([0-9]*\).*/\1/p' "$work/client.log" | tail -n 1)
  echo "$way $name ${sent:-0} ${received:-0} $((after - before))" | tee -a "$work/results"
}

echo "way server sent received ticks"
for _ in $(seq "$rounds"); do
  load conduit "$conduit" 34780 udp-channels
  load coturn "$coturn" 34790 udp-channels
  load conduit "$conduit" 34780 udp-indications -s
  load coturn "$coturn" 34790 udp-indications -s
  load conduit "$conduit" 34780 tcp-channels -t
  load coturn "$coturn" 34790 tcp-channels -t
  load conduit "$conduit" 34781 tls-channels -t -S
  load coturn "$coturn" 34791 tls-channels -t -S
done

awk -v hz="$hz" '
  # A message that came back was relayed twice, one that did not at least once.
  $5 > 0 { n[$1, $2]++; rate[$1, $2, n[$1, $2]] = ($3 + $4) * hz / $5; lost[$1, $2] += $3 - $4; sent[$1, $2] += $3 }
  function median(way, server,   i, j, count, swap, list) {
    count = n[way, server]
    for (i = 1; i <= count; i++) list[i] = rate[way, server, i]
    for (i = 1; i <= count; i++) for (j = i + 1; j <= count; j++) if (list[j] < list[i]) {
      swap = list[i]; list[i] = list[j]; list[j] = swap
    }
    return count ? list[int((count + 1) / 2)] : 0
  }
  END {
    print "\n| way | conduit, packets per CPU second | coturn | ratio | lost, conduit | lost, coturn |"
    print "|---|---|---|---|---|---|"
    split("udp-channels udp-indications tcp-channels tls-channels", ways, " ")
    for (i = 1; i in ways; i++) {
      way = ways[i]; a = median(way, "conduit"); b = median(way, "coturn")
      printf "| %s | %d | %d | %.2f | %.2f %% | %.2f %% |\n", way, a, b, b ? a / b : 0, \
        100 * lost[way, "conduit"] / (sent[way, "conduit"] + 0.0001), 100 * lost[way, "coturn"] / (sent[way, "coturn"] + 0.0001)
    }
  }' "$work/results"
