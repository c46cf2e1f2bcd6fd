#!/usr/bin/env bash
# Builds metrics-server of this folder's go.mod; prints its folder as the last line.
set -euo pipefail
tools=$(cd "$(dirname "$0")/.." && pwd)
source "$tools/once.sh"
once metrics-server sigs.k8s.io/metrics-server/cmd/metrics-server "about three minutes"
