#!/usr/bin/env bash
# Builds metrics-server of this folder's go.mod, once, into a cache folder keyed by
# it. Prints the folder as its last line.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
command -v go >/dev/null || { echo "go is missing: apt-get install golang-go (1.26 or newer)" >&2; exit 1; }
key=$(cat "$here/go.mod" "$here/go.sum" "$here/build.sh" | sha256sum | cut -c1-16)
bin=${XDG_CACHE_HOME:-$HOME/.cache}/virtual-kubelet/metrics-server/$key
if [ ! -x "$bin/metrics-server" ]; then
  # Moved in whole: an interrupted build leaves nothing half made.
  staging=$bin.building.$$
  mkdir -p "$staging"
  trap 'rm -rf "$staging"' EXIT
  echo "building metrics-server (about three minutes on two cores, once)" >&2
  cd "$here"
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$staging/metrics-server" sigs.k8s.io/metrics-server/cmd/metrics-server
  mkdir -p "$bin"
  mv "$staging/metrics-server" "$bin/"
fi
echo "$bin"
