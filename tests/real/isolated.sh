#!/usr/bin/env bash
# Runs a command in a network of its own, out of which nothing leads, and tells it
# in VK_NODE_ADDRESS an address there that is not loopback: the API server proxies
# to no other. Where no such network can be made (no root, no user namespaces, no
# iproute2) the command runs as it is, and says itself what it skips.
set -euo pipefail
address=${VK_NODE_ADDRESS:-10.255.0.1}
flags=(--net)
[ "$(id -u)" = 0 ] || flags+=(--map-root-user)
# The API server wants a default route, to find its own address by it.
inside='ip link set lo up && ip address add "$0/32" dev lo && ip route add default dev lo src "$0" && exec "$@"'
if [ -z "${VK_NODE_ADDRESS:-}" ] && unshare "${flags[@]}" sh -c "$inside" "$address" true 2>/dev/null; then
  export VK_NODE_ADDRESS=$address
  exec unshare "${flags[@]}" sh -c "$inside" "$address" "$@"
fi
exec "$@"
