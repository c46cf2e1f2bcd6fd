#!/usr/bin/env bash
# Builds this folder's program; prints its folder as the last line.
set -euo pipefail
tools=$(cd "$(dirname "$0")/.." && pwd)
source "$tools/once.sh"
once cri-streaming . "about a minute" main.go
