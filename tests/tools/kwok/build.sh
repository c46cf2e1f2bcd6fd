#!/usr/bin/env bash
# Builds kwok of this folder's go.mod, and puts beside it the stages that kwokctl
# would give it (stages.yaml): alone it has none and ends. Prints the folder as the
# last line.
set -euo pipefail
tools=$(cd "$(dirname "$0")/.." && pwd)
source "$tools/once.sh"
beside() {
  local stages stage
  stages=$(go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
  for stage in "$stages"/node/fast/node-*.yaml "$stages"/node/heartbeat-with-lease/node-*.yaml "$stages"/pod/fast/pod-*.yaml; do
    echo '---'
    cat "$stage"
  done >"$1/stages.yaml"
}
once kwok sigs.k8s.io/kwok/cmd/kwok "about two minutes"
