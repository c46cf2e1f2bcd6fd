#!/usr/bin/env bash
# `make test-real`: brings the real parts here, then runs the tests on them.
#   FLIGHTCTL_BIN  folder with flightctl-api, -worker, -periodic and -db-migrate:
#                  the scenarios run against the real service too; with
#                  flightctl-agent in it also on a real device (as root)
#   VK_LARGE=1     kubectl cp copies 1 GiB, not 64 MiB
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo=${CARGO:-cargo}
VK_TOOLS=$(tests/tools/build.sh | tail -1)
export VK_TOOLS
if command -v go >/dev/null; then
  VK_METRICS_SERVER=$(tests/tools/metrics-server/build.sh | tail -1)
  export VK_METRICS_SERVER
  VK_CRI_STREAMING=$(tests/tools/cri-streaming/build.sh | tail -1)
  export VK_CRI_STREAMING
  VK_HELM=$(tests/tools/helm/build.sh | tail -1)
  export VK_HELM
fi
if [ "$(id -u)" = 0 ]; then
  tests/real/packages.sh
  VK_DEVICE_ROOT=$(tests/real/device-root.sh | tail -1)
  export VK_DEVICE_ROOT
else
  echo "SKIPPED: Podman's generator (its root needs to be made as root)"
fi
# Without it, which the script tells, one test is skipped.
if VK_PYTHON=$(tests/tools/python/build.sh | tail -1); then export VK_PYTHON; else unset VK_PYTHON; fi
"$cargo" test --locked -p virtual-kubelet --test real --no-run
tests/real/isolated.sh "$cargo" test --locked --offline -p virtual-kubelet --test real -- --nocapture
"$cargo" build --locked -p virtual-kubelet --example mock
"$cargo" test --locked -p virtual-kubelet --test real_processes --no-run
tests/real/isolated.sh "$cargo" test --locked --offline -p virtual-kubelet --test real_processes -- --nocapture
"$cargo" test --locked -p virtual-kubelet --test api library -- --nocapture
"$cargo" test --locked -p virtual-kubelet --test real_nodes -- --nocapture
"$cargo" test --locked -p virtual-kubelet --test real_inputs -- --nocapture
"$cargo" test --locked -p virtual-kubelet --test real_api -- --nocapture
"$cargo" test --locked -p virtual-kubelet --test status real -- --nocapture
"$cargo" test --locked -p virtual-kubelet --test podspec real -- --nocapture
"$cargo" test --locked -p vk-sandbox --test proxy kubectl -- --nocapture
"$cargo" build --locked -p vk-flightctl --example demo
"$cargo" test --locked -p vk-flightctl --test demo -- --nocapture
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
make --no-print-directory build PROFILE=dev BIN="$bin" CARGO="$cargo"
VK_BIN=$bin "$cargo" test --locked -p vk-flightctl --test packaging -- --nocapture
"$cargo" test --locked -p vk-flightctl --test real -- --nocapture --test-threads 1
if [ -n "${VK_DEVICE_ROOT:-}" ]; then
  "$cargo" test --locked -p vk-flightctl --test generator -- --nocapture
fi
