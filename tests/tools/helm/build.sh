#!/usr/bin/env bash
# Builds Helm of this folder's go.mod, for the test of the chart. Prints the folder
# as the last line.
set -euo pipefail
tools=$(cd "$(dirname "$0")/.." && pwd)
source "$tools/once.sh"
once helm helm.sh/helm/v4/cmd/helm "about two minutes"
