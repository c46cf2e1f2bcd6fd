#!/usr/bin/env bash
# Builds this folder's program, once, into a cache folder keyed by its source.
# Prints the folder as its last line.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
command -v go >/dev/null || { echo "go is missing: apt-get install golang-go (1.26 or newer)" >&2; exit 1; }
key=$(cat "$here"/{main.go,go.mod,go.sum,build.sh} | sha256sum | cut -c1-16)
bin=${XDG_CACHE_HOME:-$HOME/.cache}/virtual-kubelet/cri-streaming/$key
if [ ! -x "$bin/cri-streaming" ]; then
  # Moved in whole: an interrupted build leaves nothing half made.
  staging=$bin.building.$$
  mkdir -p "$staging"
  trap 'rm -rf "$staging"' EXIT
  echo "building cri-streaming (about a minute on two cores, once)" >&2
  cd "$here"
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$staging/cri-streaming" .
  mkdir -p "$bin"
  mv "$staging/cri-streaming" "$bin/"
fi
echo "$bin"
