#!/bin/sh
# Installs etcd for the whole cluster: etcd.sh ADDRESS
#
# It is for a cluster to play with, and lets everybody in who reaches the private
# network; Documentation/systemd.md has certificates and rights.
set -eu
address=$1

export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -q -y install --no-install-recommends etcd-server
cat >/etc/default/etcd <<EOF
ETCD_NAME=$(hostname)
ETCD_DATA_DIR=/var/lib/etcd/default
ETCD_LISTEN_CLIENT_URLS=http://$address:2379,http://127.0.0.1:2379
ETCD_ADVERTISE_CLIENT_URLS=http://$address:2379
EOF
systemctl enable etcd
systemctl restart etcd
