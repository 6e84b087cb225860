#!/usr/bin/env bash
# What check_port_exhaustion costs with 55 000 sockets, beside ss and netstat, and with a million, in one run. Needs root
# for network namespaces; leaves with 1 where a claim of the documentation is missed.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --bin check_port_exhaustion
cargo build --locked --example bench_ports
exec scripts/as-root target/debug/examples/bench_ports target/release/check_port_exhaustion
