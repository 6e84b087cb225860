#!/bin/bash
# How fast check_nginx_upstream_bind reads, beside what one would use instead, in one session on one log.
#
#   benches/nginx_log.sh [MiB] [RUNS] [BINARY]      default: 1024 7 target/release/check_nginx_upstream_bind
#
# The log is that of one day on a busy proxy: files not found, refused and slow upstreams all day, and the incident
# from 05:00 to 06:30. Everything is read from memory (the page cache), and grep's output goes through a pipe, since
# GNU grep stops at the first match when it writes to /dev/null. Figures are medians of RUNS, in seconds.
set -euo pipefail
size=${1:-1024} runs=${2:-7} check=${3:-target/release/check_nginx_upstream_bind}
check=$(realpath "$check")
folder=$(mktemp -d "${TMPDIR:-/tmp}/nginx_log.XXXXXX")
trap 'rm -rf "$folder"' EXIT
export LC_ALL=C NAGIOS_PLUGIN_STATE_DIRECTORY=$folder/state
log=$folder/error.log

# Lines of $2 seconds, one day without, as many as fill $1 MiB; the last minute is now's.
generate() {
    awk -v mib="$1" -v now="$(date +%s)" -v span="${2:-86400}" 'BEGIN {
        srand(1)
        lines = mib * 1048576 / 288
        first = now - span
        for (n = 0; n < lines; n++) {
            # An eleventh of all lines falls into the ninety minutes of the incident, on top of the usual ones.
            incident = n % 11 == 0
            at = first + int(incident ? span * (20 + 6 * n / lines) / 96 : span * n / lines)
            if (!incident) order[int(at / 60)]++; else more[int(at / 60)]++
        }
        for (minute = int(first / 60); minute <= int(now / 60); minute++) {
            day = strftime("%Y/%m/%d %H:%M:", minute * 60)
            usual = order[minute] + 0; extra = more[minute] + 0; all = usual + extra
            for (n = 0; n < all; n++) {
                stamp = day sprintf("%02d", int(60 * n / all))
                pid = 1090 + int(rand() * 4); cid++
                ip = "192.0.2." int(rand() * 250)
                tail = ", client: " ip ", server: shop" int(rand() * 9) ".example, request: \"GET /api/v1/items/" int(rand() * 100000) "?page=" int(rand() * 50) " HTTP/1.1\""
                host = ", host: \"shop.example\", referrer: \"https://shop.example/cart/" int(rand() * 1000) "\""
                kind = rand() * all < extra ? -1 : rand()
                up = ", upstream: \"http://log" int(rand() * 4) ":8080/api/v1/items/" int(rand() * 100000) "\""
                head = "] " pid "#" pid ": *" cid " "
                if (kind < 0) print stamp " [crit" head "bind(0.0.0.0) failed (98: Address already in use) while connecting to upstream" tail up host
                else if (kind < 0.25) print stamp " [error" head "connect() failed (111: Connection refused) while connecting to upstream" tail up host
                else if (kind < 0.36) print stamp " [error" head "upstream timed out (110: Connection timed out) while reading response header from upstream" tail up host
                else if (kind < 0.40) print stamp " [error" head "recv() failed (104: Connection reset by peer) while reading response header from upstream" tail up host
                else if (kind < 0.401) print stamp " [emerg] " pid "#" pid ": bind() to 0.0.0.0:80 failed (98: Address already in use)"
                else if (kind < 0.402) print stamp " [error" head "open() \"/srv/html/x\" failed (2: No such file or directory)" tail ", host: \"a\", referrer: \"http://a/bind(0.0.0.0) failed (98: Address already in use)\""
                else if (kind < 0.42) print stamp " [warn" head "an upstream response is buffered to a temporary file /var/cache/nginx/proxy_temp/5/02/0000012025 while reading upstream" tail up host
                else if (kind < 0.44) print stamp " [notice] " pid "#" pid ": signal 17 (SIGCHLD) received from " pid
                else if (kind < 0.60) print stamp " [error" head "access forbidden by rule" tail ", host: \"shop.example\""
                else print stamp " [error" head "open() \"/srv/html/assets/" int(rand() * 100000) ".png\" failed (2: No such file or directory)" tail host
            }
        }
    }'
}

# The median of some numbers, one in a line.
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

# Wall and CPU seconds of a command line, $1 repetitions in each of $runs runs.
TIMEFORMAT='%R %U %S'
measure() {
    local repeat=$1 line=$2 n
    for ((n = 0; n < runs; n++)); do
        { time for ((i = 0; i < repeat; i++)); do eval "$line" > /dev/null 2>&1 || true; done; } 2>&1
    done | awk -v repeat="$repeat" '{ print $1 / repeat, ($2 + $3) / repeat }' > "$folder/times"
    wall=$(cut -d' ' -f1 "$folder/times" | median)
    cpu=$(cut -d' ' -f2 "$folder/times" | median)
}

row() { # NAME REPEAT COMMAND
    measure "$2" "$3"
    local ratio=
    if [ -n "${yardstick:-}" ]; then ratio=$(awk -v a="$yardstick" -v b="$wall" 'BEGIN { printf "%.2f x", a / (b > 0 ? b : 1e-9) }'); fi
    printf '%-62s %9.4f %9.4f %10s\n' "$1" "$wall" "$cpu" "$ratio"
}

# Rows that are compared with each other: measured in turn, since a machine is not always as fast.
names=() lines=()
whole() { # NAME COMMAND
    names+=("$1")
    lines+=("$2")
}
in_turn() {
    local n at
    for ((n = 0; n < runs; n++)); do
        for at in "${!names[@]}"; do
            { time eval "${lines[at]}" > /dev/null 2>&1 || true; } 2>> "$folder/turns.$at"
        done
    done
    for at in "${!names[@]}"; do
        wall=$(cut -d' ' -f1 "$folder/turns.$at" | median)
        cpu=$(awk '{ print $2 + $3 }' "$folder/turns.$at" | median)
        [ "$at" != 0 ] || yardstick=$wall
        printf '%-62s %9.4f %9.4f %10s\n' "${names[at]}" "$wall" "$cpu" \
            "$(awk -v a="$yardstick" -v b="$wall" 'BEGIN { printf "%.2f x", a / (b > 0 ? b : 1e-9) }')"
    done
}

rss() { # COMMAND
    if [ -x /usr/bin/time ]; then
        { /usr/bin/time -f %M bash -c "exec $1 > /dev/null" || true; } 2>&1 | tail -1 | awk '{ printf "%.1f MiB\n", $1 / 1024 }'
    else
        echo '? (apt-get install time)'
    fi
}

generate "$size" > "$log"
cat "$log" > /dev/null
first="rm -rf $folder/state; $check -f $log --last 2d"
printf '%s: %s lines, %s bytes, %s CPUs, %s\n\n' "$(uname -sr)" "$(wc -l < "$log")" "$(stat -c %s "$log")" "$(nproc)" \
    "$(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2- | sed 's/^ *//')"
printf '%-62s %9s %9s %10s\n' "the whole log" wall cpu "grep / it"
whole "grep -c 'failed (9' | cat" "grep -c 'failed (9' $log | cat"
whole "check_nginx_upstream_bind, all causes, first run" "$first"
whole "check_nginx_upstream_bind --only, default causes, first run" "$first --only"
whole "read alone: dd bs=256K" "dd if=$log of=/dev/null bs=256K"
if command -v rg > /dev/null; then
    whole "rg -c --no-mmap 'failed \(9'" "rg -c --no-mmap 'failed \(9' $log | cat"
fi
whole "grep -cE 'failed \(9[89]|no live upstreams' | cat" "grep -cE 'failed \(9[89]|no live upstreams' $log | cat"
whole "grep | awk | sort | uniq -c, as in the incident" "grep 'Address already in use' $log | awk '{ print substr(\$2, 1, 5) }' | sort | uniq -c | sort -rn | head"
in_turn
PATH=$PATH:/usr/lib/nagios/plugins
if command -v check_logfiles > /dev/null; then
    runs_before=$runs runs=1
    row "check_logfiles, first run, all of it" 1 "rm -rf $folder/seek; mkdir $folder/seek; check_logfiles --seekfilesdir $folder/seek --logfile $log --criticalpattern 'failed \(9' --allyoucaneat --noprotocol"
    runs=$runs_before
else
    echo 'check_logfiles: skipped (apt-get install monitoring-plugins-check-logfiles)'
fi

unset yardstick
printf '\n%-62s %9s %9s\n' "one run of every minute" wall cpu
eval "$first" > /dev/null || true
row "an empty process: /bin/true" 50 /bin/true
row "nothing new, window of 2 days" 50 "$check -f $log --last 2d"
row "the last ten minutes of this log, no state" 20 "rm -rf $folder/state; $check -f $log"
eval "$first" > /dev/null || true
# A megabyte more for each run, of the last minute.
generate 1 60 > "$folder/more"
row "a megabyte is added: cat >> alone" 20 "cat $folder/more >> $folder/other"
row "  and read, window of ten minutes (cat included)" 20 "cat $folder/more >> $log; $check -f $log"
$check -f "$log" --last 2d > /dev/null || true
row "  and read, window of 2 days (cat included)" 20 "cat $folder/more >> $log; $check -f $log --last 2d"
# An incident of ten minutes with many connections.
awk -v now="$(date +%s)" 'BEGIN { for (n = 0; n < 9391; n++) print strftime("%Y/%m/%d %H:%M:%S", now - 560 + int(n / 17)) " [crit] 7#7: *" n * 3 " bind(0.0.0.0) failed (98: Address already in use) while connecting to upstream, client: 192.0.2." n % 90 ", server: shop.example, request: \"GET / HTTP/1.1\", upstream: \"http://log" n % 5 ":8080/\", host: \"a\"" }' > "$folder/burst.log"
$check -f "$folder/burst.log" > /dev/null || true
printf '%-62s %9s bytes\n' "state with 9391 events" "$(stat -c %s "$(grep -l burst -r "$folder/state" --include=*.state | head -1)")"
row "nothing new, 9391 events in ten minutes" 50 "$check -f $folder/burst.log"
# Ten gigabytes, nearly all of them holes.
awk 'BEGIN { for (n = 0; n < 1000; n++) print strftime("%Y/%m/%d %H:%M:%S", 1700000000 + n * 60) " [error] 7#7: *" n " connect() failed (111: x) while connecting to upstream, client: 192.0.2.1, server: a" }' > "$folder/lines"
n=0
while read -r line; do
    printf '\n%s\n' "$line" | dd of="$folder/huge.log" bs=1 seek=$((n * 10737418)) conv=notrunc status=none
    n=$((n + 1))
done < "$folder/lines"
from=$(date -d @$((1700000000 + 30000)) '+%Y-%m-%dT%H:%M')
to=$(date -d @$((1700000000 + 30600)) '+%Y-%m-%dT%H:%M')
row "--since --before, ten minutes of a sparse file of 10 GB" 20 "$check -f $folder/huge.log --since $from --before $to --cause refused"

printf '\n%-62s %s\n' "peak memory, all causes, first run" "$(rm -rf "$folder/state"; rss "$check -f $log --last 2d")"
printf '%-62s %s\n' "peak memory, nothing new" "$(rss "$check -f $log --last 2d")"
