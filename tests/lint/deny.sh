#!/usr/bin/env bash
# Licences, bans and sources always; advisories where their database can be reached.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=0.20.2
tools=${XDG_CACHE_HOME:-$HOME/.cache}/virtual-kubelet/cargo-deny-$version
if command -v cargo-deny >/dev/null; then
  deny=cargo-deny
else
  deny=$tools/bin/cargo-deny
  if [ ! -x "$deny" ]; then
    echo "building cargo-deny $version (once)" >&2
    CARGO_TARGET_DIR=$tools/target cargo install --quiet --locked --root "$tools" --version "$version" cargo-deny
    rm -rf "$tools/target"
  fi
fi
"$deny" --workspace check --hide-inclusion-graph licenses bans sources
if timeout 60 "$deny" fetch db >/dev/null 2>&1; then
  "$deny" --workspace check advisories
else
  echo "SKIPPED: advisories (their database cannot be reached)"
fi
