#!/bin/sh
# Makes a machine a node: node.sh PACKAGE ETCD
#
# No device is named: tulled takes the one by which it reaches etcd, and not the
# first one, whose address all machines have.
set -eu
package=$1 etcd=$2

export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q -y install --no-install-recommends iputils-ping "$package"
# The first node writes the network that all share.
tullectl network get --etcd-endpoints "$etcd" >/dev/null 2>&1 ||
	tullectl network set --etcd-endpoints "$etcd" --network 10.244.0.0/16
sed -i '/^TULLED_ETCD_ENDPOINTS=/d' /etc/default/tulled
echo "TULLED_ETCD_ENDPOINTS=$etcd" >>/etc/default/tulled
systemctl enable tulled
systemctl restart tulled # returns when it is ready
