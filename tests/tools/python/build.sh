#!/usr/bin/env bash
# Installs Kubernetes' own client for Python, as requirements.txt pins it, once, into
# a virtual environment in a cache folder keyed by it.
# Prints the environment's python as its last line.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$(command -v python3) || { echo "python3 is missing: apt-get install python3 python3-venv" >&2; exit 1; }
"$python" -c 'import ensurepip, venv' 2>/dev/null || { echo "venv is missing: apt-get install python3-venv" >&2; exit 1; }
# An environment belongs to the interpreter that made it.
key=$({ cat "$here/requirements.txt" "$here/build.sh"; "$python" -c 'import sys; print(sys.version, sys.executable)'; } | sha256sum | cut -c1-16)
folder=${XDG_CACHE_HOME:-$HOME/.cache}/virtual-kubelet/python/$key
if [ ! -e "$folder/complete" ]; then
  echo "installing the Python client (half a minute, once)" >&2
  # Scripts in it name its folder, so it is made in place; one begun is begun again.
  rm -rf "$folder"
  "$python" -m venv "$folder" >&2
  "$folder/bin/pip" install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r "$here/requirements.txt" >&2
  touch "$folder/complete"
fi
echo "$folder/bin/python"
