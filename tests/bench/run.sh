#!/usr/bin/env bash
# `make bench`: the framework, the ceiling and kwok on a real API server.
#   SIZE=500   pods of a burst, instead of 5,000
#   IDLE=20    seconds the idle process is watched, instead of 60
#   ONLY=x     mock-1, mock-10, mock-100, kwok or growth, beside the ceiling;
#              inputs: pods on one ConfigMap and one Secret;
#              or nodes: NODES=500 nodes in one process
# docs/benchmarks.md explains the tables.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
VK_TOOLS=$(tests/tools/build.sh | tail -1)
VK_KWOK=$(tests/tools/kwok/build.sh | tail -1)
export VK_TOOLS VK_KWOK
"$cargo" build --release --locked -p virtual-kubelet --example mock
"$cargo" bench --locked -p virtual-kubelet --bench pods
