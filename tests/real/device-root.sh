#!/usr/bin/env bash
# Makes the root of a real device once: Debian 13 with systemd and Podman 5, in
# the user's cache folder (about 40 s, 400 MB). Podman's own quadlet generator in
# it judges every unit we generate, without being booted; booted by systemd-nspawn
# (tests/real/harness/machine.rs) it is a device for Flight Control's agent.
# Prints the folder as its last line. DEBIAN_MIRROR names another mirror than
# the one this machine's apt uses.
set -euo pipefail
# Bump when the content below changes, so that an old root is not taken for a new one.
layout=2
suite=trixie
# catatonit: the first process of a Podman pod. procps: the agent asks uptime.
# busybox-static: an image made of it needs no registry.
packages=(systemd systemd-sysv dbus podman skopeo crun netavark aardvark-dns nftables iptables iproute2 sudo ca-certificates
  catatonit procps busybox-static)

root=${XDG_CACHE_HOME:-$HOME/.cache}/virtual-kubelet/device-root
mark=etc/virtual-kubelet-device-root
if [ "$(cat "$root/$mark" 2>/dev/null)" = "$layout" ]; then
  echo "$root"
  exit 0
fi

need() {
  # /usr/sbin is not on everyone's PATH.
  PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || {
    echo "$1 is missing: apt-get install $2" >&2
    exit 1
  }
}
need debootstrap debootstrap
need chroot coreutils
need flock util-linux
PATH=$PATH:/usr/sbin:/sbin
[ "$(id -u)" = 0 ] || { echo "making a device root needs root: run sudo $0" >&2; exit 1; }

mirror=${DEBIAN_MIRROR:-}
if [ -z "$mirror" ]; then
  # The archive this machine already uses; security and vendor archives lie elsewhere.
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
    grep -E '/debian/?$' | head -n 1 || true)
fi
[ -n "$mirror" ] || {
  echo "no Debian archive in this machine's apt sources: set DEBIAN_MIRROR to one" >&2
  exit 1
}

# Made beside its final place and moved in whole: an interrupted run leaves nothing half made.
mkdir -p "$(dirname "$root")"
exec 9>"$root.lock"
flock 9
if [ "$(cat "$root/$mark" 2>/dev/null)" = "$layout" ]; then
  echo "$root"
  exit 0
fi
staging=$root.building.$$
trap 'rm -rf --one-file-system "$staging"' EXIT
echo "making a Debian $suite root with Podman (about 40 s, once)" >&2
debootstrap --variant=minbase "$suite" "$staging" "$mirror" >&2
# Package scripts must not start services on this machine.
printf '#!/bin/sh\nexit 101\n' >"$staging/usr/sbin/policy-rc.d"
chmod 755 "$staging/usr/sbin/policy-rc.d"
chroot "$staging" env DEBIAN_FRONTEND=noninteractive LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  apt-get install -q -y --no-install-recommends "${packages[@]}" >&2
chroot "$staging" apt-get clean
rm "$staging/usr/sbin/policy-rc.d"
# No keyrings and no pids controller inside systemd-nspawn.
mkdir -p "$staging/etc/containers"
printf '[containers]\nkeyring=false\npids_limit=0\n' >"$staging/etc/containers/containers.conf"
[ -x "$staging/usr/lib/systemd/system-generators/podman-system-generator" ] || {
  echo "Debian's podman came without its quadlet generator" >&2
  exit 1
}
echo "$layout" >"$staging/$mark"
rm -rf --one-file-system "$root"
mv "$staging" "$root"
echo "$root"
