#!/usr/bin/env bash
# Records testdata/demo anew: a Prometheus scrapes a node exporter and itself for some minutes, answers a few
# queries meanwhile, and is killed with SIGKILL, so that the directory has blocks, a log and no clean end.
#
#   testdata/recording/record.sh DIRECTORY [SECONDS]
#
# Needs prometheus and prometheus-node-exporter on the PATH and the loopback ports 9090 and 9100 free.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
into=${1:?"where to record to"}
seconds=${2:-660}
[ ! -e "$into" ] || { echo "$into exists" >&2; exit 2; }

prometheus-node-exporter --web.listen-address=127.0.0.1:9100 --log.level=error --collector.disable-defaults \
  --collector.cpu --collector.meminfo --collector.loadavg --collector.netdev --collector.filesystem --collector.diskstats \
  --collector.filesystem.mount-points-exclude='^/.+' --collector.diskstats.device-exclude='^(ram|loop|zram|fd)[0-9]+$' &
exporter=$!
# Blocks of two minutes instead of two hours: a small directory with everything in it.
prometheus --config.file="$here/prometheus.yml" --web.listen-address=127.0.0.1:9090 --storage.tsdb.path="$into" \
  --storage.tsdb.min-block-duration=2m --storage.tsdb.max-block-duration=6m --log.level=warn &
server=$!
trap 'kill "$exporter" "$server" 2>/dev/null || true' EXIT

end=$((SECONDS + seconds))
n=0
while [ "$SECONDS" -lt "$end" ]; do
  sleep 1
  n=$((n + 1))
  curl -s -o /dev/null --get 127.0.0.1:9090/api/v1/query --data-urlencode 'query=sum by (mode) (rate(node_cpu_seconds_total[1m]))' || true
  [ $((n % 5)) -ne 0 ] || curl -s -o /dev/null --get 127.0.0.1:9090/api/v1/query_range --data-urlencode 'query=node_load1' \
    --data "start=$(($(date +%s) - 600))&end=$(date +%s)&step=5" || true
  [ $((n % 17)) -ne 0 ] || curl -s -o /dev/null --get 127.0.0.1:9090/api/v1/query --data-urlencode 'query=sum(' || true
done
kill -KILL "$server"
wait "$server" 2>/dev/null || true
kill "$exporter"
wait "$exporter" 2>/dev/null || true
trap - EXIT
rm -f "$into/lock" "$into/queries.active"
find "$into" -type f -printf '%s\t%P\n' | sort -k2
