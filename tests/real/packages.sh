#!/usr/bin/env bash
# The Debian packages that the real parts need. Installs them where it may
# (VK_INSTALL=1 and root), names the command otherwise.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin
missing=()
need() { command -v "$1" >/dev/null || [ -x "$1" ] || missing+=("$2"); }
need debootstrap debootstrap
need busybox busybox-static
# Without these, which each come with a line that says so, tests are skipped.
if [ "${VK_INSTALL:-}" = 1 ]; then
  # For the device.
  need systemd-nspawn systemd-container
  # For the image, and for the alerts.
  need dockerd docker.io
  need promtool prometheus
  python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
fi
if [ -n "${FLIGHTCTL_BIN:-}" ]; then
  # Any version; Debian keeps each in a folder of its own, outside PATH.
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
  need redis-server redis-server
  if [ -x "$FLIGHTCTL_BIN/flightctl-agent" ]; then need systemd-nspawn systemd-container; fi
fi
[ ${#missing[@]} -eq 0 ] && exit 0
install="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "${VK_INSTALL:-}" = 1 ] && [ "$(id -u)" = 0 ]; then
  apt-get update -q >&2
  DEBIAN_FRONTEND=noninteractive $install >&2
else
  echo "missing packages; as root: $install" >&2
  exit 1
fi
