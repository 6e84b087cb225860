#!/usr/bin/env bash
# Every claim of the README about speed beside its yardstick, in one run and one table; leaves with 1 where one does not
# hold. The details of each are measured by the other files here. Needs root for a network namespace with many sockets.
#
#   benches/claims.sh [FOLDER WITH THE BINARIES]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/needs --install bench
[ $# -gt 0 ] || scripts/release
cargo build --locked --quiet --example bench_claims --example bench_ports
exec scripts/as-root target/debug/examples/bench_claims "${1-target/release}"
