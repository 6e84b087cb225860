#!/bin/bash
# How fast incident_timeline reads an access log, and with how much memory, beside what one would use instead: counting the
# 5xx of each minute with awk, or with grep, cut, sort and uniq.
#
#   benches/timeline.sh [MiB] [RUNS] [BINARY]      default: 1024 3 target/release/incident_timeline
#
# The log is that of a day: 2 % of the requests fail in 90 minutes of it. All is read from memory (the page cache). Figures
# are medians of RUNS: seconds of wall time, seconds of processor, MiB of memory.
set -euo pipefail
size=${1:-1024} runs=${2:-3} timeline=$(realpath "${3:-target/release/incident_timeline}")
folder=$(mktemp -d "${TMPDIR:-/tmp}/timeline.XXXXXX")
trap 'rm -rf "$folder"' EXIT
export LC_ALL=C TZ=UTC
log=$folder/access.log

# One MiB or so of lines of one minute each, with the minute filled in afterwards: awk's rand() is slow.
awk -v mib="$size" 'BEGIN {
    srand(1)
    for (n = 0; n < 2000; n++) {
        service = "shop" int(rand() * 9) ".example"; up = "10.0.0." int(1 + rand() * 4) ":8080"
        head[n] = "192.0.2." int(rand() * 250) " - - ["
        path[n] = "] \"GET /api/v1/items/" int(rand() * 100000) "?page=" int(rand() * 50) " HTTP/1.1\" "
        tail[n] = " " int(rand() * 50000) " \"https://" service "/cart\" \"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\" " service " 0.0" int(rand() * 90) " \"" up "\" \""
    }
    lines = int(mib * 1048576 / 250)
    for (n = 0; n < lines; n++) {
        at = int(86400 * n / lines)
        status = at >= 18000 && at < 23400 && rand() < 0.02 ? 502 : 200
        k = int(rand() * 2000)
        printf "%s23/Nov/2026:%02d:%02d:%02d +0000%s%d%s%d\"\n", head[k], at / 3600, at / 60 % 60, at % 60, path[k], status, tail[k], status
    }
}' > "$log"
cat "$log" > /dev/null
printf '%d lines, %d MiB\n' "$(wc -l < "$log")" "$(($(stat -c %s "$log") >> 20))"

form='$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" $host $request_time "$upstream_addr" "$upstream_status"'

measure() {
    local name=$1
    shift
    for _ in $(seq "$runs"); do
        /usr/bin/time -f '%e %U %S %M' -o "$folder/time" "$@" > "$folder/out"
        cat "$folder/time"
    done | sort -n | awk -v name="$name" '{ line[NR] = $0 } END {
        split(line[int((NR + 1) / 2)], t, " ")
        printf "%-44s %6.2f s %6.2f s cpu %6.1f MiB\n", name, t[1], t[2] + t[3], t[4] / 1024
    }'
}

measure 'incident_timeline, all of it' "$timeline" -a "$log" --log-format "$form" --format json
measure 'incident_timeline, 90 minutes of it' "$timeline" -a "$log" --log-format "$form" --format json \
    --since '2026-11-23 05:00' --before '2026-11-23 06:30'
measure 'incident_timeline, form combined' "$timeline" -a "$log" --format json
measure 'awk, 5xx of each minute' awk '$9 >= 500 { n[substr($4, 2, 17)]++ } END { for (m in n) print m, n[m] }' "$log"
measure 'grep, cut, sort, uniq -c' sh -c 'grep -E "\" 5[0-9][0-9] " "$1" | cut -d[ -f2 | cut -c1-17 | sort | uniq -c' sh "$log"
