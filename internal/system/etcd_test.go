package system

import "testing"

// startEtcd boots a host with the distribution's etcd, as
// Documentation/etcd-security.md says: it talks with nobody without a certificate,
// and users may do what their role says.
func startEtcd(t *testing.T, n *network) *host {
	t.Helper()
	h := newHost(t, n, "etcd1", router)
	h.boot()
	h.put("/etc/etcd/certificate", `cd /etc/etcd/pki
openssl req -x509 -CA ca.crt -CAkey ca.key -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 365 -subj "/CN=$1" \
    -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:192.0.2.1,IP:127.0.0.1 -keyout "$1.key" -out "$1.crt"
`, 0o644)
	h.put("/etc/default/etcd", `ETCD_LISTEN_CLIENT_URLS=https://192.0.2.1:2379,https://127.0.0.1:2379
ETCD_ADVERTISE_CLIENT_URLS=https://192.0.2.1:2379
ETCD_CERT_FILE=/etc/etcd/pki/etcd.crt
ETCD_KEY_FILE=/etc/etcd/pki/etcd.key
ETCD_TRUSTED_CA_FILE=/etc/etcd/pki/ca.crt
ETCD_CLIENT_CERT_AUTH=true
ETCD_DATA_DIR=/var/lib/etcd/default
`, 0o644)
	h.put("/etc/etcd/root.env", `export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=https://127.0.0.1:2379 ETCDCTL_CACERT=/etc/etcd/pki/ca.crt
export ETCDCTL_CERT=/etc/etcd/pki/root.crt ETCDCTL_KEY=/etc/etcd/pki/root.key
`, 0o644)
	h.sh(`install -d -m 0750 -o root -g etcd /etc/etcd/pki && cd /etc/etcd/pki
		openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3650 -subj /CN=etcd-ca -keyout ca.key -out ca.crt
		for name in etcd root tulle; do sh -e /etc/etcd/certificate $name; done
		chown etcd: ca.crt etcd.crt etcd.key
		systemctl unmask etcd.service && systemctl start etcd.service
		. /etc/etcd/root.env
		etcdctl role add tulle-node
		etcdctl role grant-permission tulle-node --prefix=true read /tulle/network/
		etcdctl role grant-permission tulle-node --prefix=true readwrite /tulle/network/subnets/
		etcdctl user add root --no-password && etcdctl user grant-role root root
		etcdctl user add tulle --no-password && etcdctl user grant-role tulle tulle-node
		etcdctl auth enable`)
	return h
}

// setNetwork writes the Network as an operator with all rights.
func setNetwork(etcd *host) {
	etcd.t.Helper()
	etcd.sh(`. /etc/etcd/root.env; etcdctl put /tulle/network/config '{"Network": "10.244.0.0/16", "Backend": {"Type": "vxlan"}}'`)
}

// join gives a node its certificate and says where etcd is.
func join(etcd, node *host) {
	node.t.Helper()
	for from, to := range map[string]string{"ca.crt": "etcd-ca.crt", "tulle.crt": "etcd-client.crt", "tulle.key": "etcd-client.key"} {
		node.put("/etc/tulle/"+to, etcd.sh("cat /etc/etcd/pki/"+from)+"\n", 0o600)
	}
	node.sh(`cat >> /etc/default/tulled <<-END
		TULLED_ETCD_ENDPOINTS=https://192.0.2.1:2379
		TULLED_ETCD_CAFILE=/etc/tulle/etcd-ca.crt
		TULLED_ETCD_CERTFILE=/etc/tulle/etcd-client.crt
		TULLED_ETCD_KEYFILE=/etc/tulle/etcd-client.key
		END`)
}
