#!/usr/bin/env bash
# `make bench`: the framework, the ceiling and kwok on a real API server.
#   SIZE=500   pods of a burst, instead of 5,000
#   IDLE=20    seconds the idle process is watched, instead of 60
#   ONLY=x     mock-1, mock-10, mock-100, kwok or growth, beside the ceiling;
#              inputs: pods on one ConfigMap and one Secret;
#              nodes: NODES=500 nodes in one process;
#              estate: many devices at Flight Control's request limit, on the stepped clock
#              (ESTATE_DEVICES=500, ESTATE_PODS=5000, ESTATE_HOURS=24);
#              or streams: exec, logs and port-forward beside the streaming library
#              of Kubernetes' container runtimes; SIZE_STREAM=64 MiB instead of 1024,
#              ROUNDS=1 instead of 3, SESSIONS=50 instead of 200
# docs/benchmarks.md explains the tables.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
only=${ONLY:-}
if [ -z "$only" ] || [ "$only" = estate ]; then
  ESTATE_DEVICES=${ESTATE_DEVICES:-500} ESTATE_PODS=${ESTATE_PODS:-5000} \
    ESTATE_HOURS=${ESTATE_HOURS:-24} \
    "$cargo" test --release --locked -p vk-flightctl --test trouble -- \
    scale:: --nocapture --test-threads=1
fi
[ "$only" != estate ] || exit 0
VK_TOOLS=$(tests/tools/build.sh | tail -1)
export VK_TOOLS
"$cargo" build --release --locked -p virtual-kubelet --example mock
if [ "$only" != streams ]; then
  VK_KWOK=$(tests/tools/kwok/build.sh | tail -1)
  export VK_KWOK
  "$cargo" bench --locked -p virtual-kubelet --bench pods
fi
if [ -z "$only" ] || [ "$only" = streams ]; then
  VK_CRI_STREAMING=$(tests/tools/cri-streaming/build.sh | tail -1)
  export VK_CRI_STREAMING
  "$cargo" bench --locked -p virtual-kubelet --bench streams --no-run
  tests/real/isolated.sh "$cargo" bench --locked --offline -p virtual-kubelet --bench streams
fi
