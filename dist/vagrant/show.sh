#!/bin/sh
# Shows that this machine's pod reaches those of all others: show.sh ETCD
set -eu
tullectl status
echo
tullectl lease list --etcd-endpoints "$1"

own=$(ip -n pod -4 -o address show dev eth0 | sed 's/.* inet \([0-9.]*\).*/\1/')
for subnet in $(tullectl lease list --etcd-endpoints "$1" | sed '1d; s#/.*##'); do
	pod=${subnet%.*}.2 # the first of a node
	[ "$pod" != "$own" ] || continue
	echo
	echo "from the pod $own to the pod $pod on another machine:"
	# It may take a moment until the other machine has heard of this one.
	ip netns exec pod ping -q -c 1 -W 10 "$pod" >/dev/null || true
	ip netns exec pod ping -c 3 -W 5 "$pod"
done
