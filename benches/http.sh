#!/usr/bin/env bash
# What a probe costs: check_http_retry beside check_http, check_curl, ab and wrk, on a local nginx.
#
#   benches/http.sh [--quick] [BINARY]      default: target/release/check_http_retry
#
# One attempt: wall time, CPU and peak memory of the whole process, over http and https. The loop: rate and CPU of each
# probe on a new connection, one and eight at a time. All take turns in each round, figures are medians of the rounds,
# ratios are medians of the rounds' ratios: other work on the machine meets all of them alike.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
scripts/needs --install bench
[[ "$*" == *check_http_retry* ]] || cargo build --release --locked --quiet --bin check_http_retry
cargo run --locked --quiet --example bench_http -- "$@"
