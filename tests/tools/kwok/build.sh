#!/usr/bin/env bash
# Builds kwok of this folder's go.mod, once, into a cache folder keyed by it, and
# puts beside it the stages that kwokctl would give it (stages.yaml): alone it
# has none and ends.
# Prints the folder as its last line.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
command -v go >/dev/null || { echo "go is missing: apt-get install golang-go (1.26 or newer)" >&2; exit 1; }
key=$(cat "$here/go.mod" "$here/go.sum" "$here/build.sh" | sha256sum | cut -c1-16)
bin=${XDG_CACHE_HOME:-$HOME/.cache}/virtual-kubelet/kwok/$key
if [ ! -x "$bin/kwok" ]; then
  # Moved in whole: an interrupted build leaves nothing half made.
  staging=$bin.building.$$
  mkdir -p "$staging"
  trap 'rm -rf "$staging"' EXIT
  echo "building kwok (about two minutes on two cores, once)" >&2
  cd "$here"
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$staging/kwok" sigs.k8s.io/kwok/cmd/kwok
  stages=$(go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)/kustomize/stage
  for stage in "$stages"/node/fast/node-*.yaml "$stages"/node/heartbeat-with-lease/node-*.yaml "$stages"/pod/fast/pod-*.yaml; do
    echo '---'
    cat "$stage"
  done >"$staging/stages.yaml"
  mkdir -p "$bin"
  mv "$staging/stages.yaml" "$staging/kwok" "$bin/"
fi
echo "$bin"
