#!/usr/bin/env bash
# Builds this folder's programs; prints their folder as the last line.
set -euo pipefail
tools=$(cd "$(dirname "$0")/.." && pwd)
source "$tools/once.sh"
beside() {
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$1/kubelet" ./kubelet
}
once cri-streaming . "about two minutes" main.go machine/machine.go kubelet/main.go
