#!/usr/bin/env bash
# Builds the control plane and kubectl of tests/tools/go.mod, once, into a cache
# folder keyed by that manifest. Prints the folder as its last line.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
parts=(etcd kube-apiserver kube-controller-manager kube-scheduler kubectl)

if [ -n "${KUBEBUILDER_ASSETS:-}" ]; then
  # envtest's own assets lack the controller-manager and the scheduler.
  for part in "${parts[@]}"; do
    [ -x "$KUBEBUILDER_ASSETS/$part" ] || { echo "KUBEBUILDER_ASSETS=$KUBEBUILDER_ASSETS has no $part; unset it to build from source" >&2; exit 1; }
  done
  echo "$KUBEBUILDER_ASSETS"
  exit 0
fi
command -v go >/dev/null || { echo "go is missing: apt-get install golang-go (1.26 or newer)" >&2; exit 1; }

key=$(cat "$here/go.mod" "$here/go.sum" | sha256sum | cut -c1-16)
bin=${XDG_CACHE_HOME:-$HOME/.cache}/virtual-kubelet/tools/$key
complete() { for part in "${parts[@]}"; do [ -x "$bin/$part" ] || return 1; done; }
if ! complete; then
  version=$(cd "$here" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
  stamp=k8s.io/component-base/version
  minor=${version#v1.}
  flags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*} -X $stamp.gitTreeState=clean"
  # Built beside the final place and moved in whole: an interrupted build leaves nothing half made.
  staging=$bin.building.$$
  mkdir -p "$staging"
  trap 'rm -rf "$staging"' EXIT
  echo "building ${parts[*]} $version (about five minutes on two cores, once)" >&2
  cd "$here"
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$flags" -o "$staging/" \
    k8s.io/kubernetes/cmd/kube-apiserver k8s.io/kubernetes/cmd/kube-controller-manager \
    k8s.io/kubernetes/cmd/kube-scheduler k8s.io/kubernetes/cmd/kubectl
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w" -o "$staging/etcd" go.etcd.io/etcd/server/v3
  mkdir -p "$bin"
  mv "$staging"/* "$bin/"
fi
echo "$bin"
