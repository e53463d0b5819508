package lab

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// garbage is a key among the leases, and why it is left out. In keys and values
// $OWN, $PEER, $PEERMAC, $OWNKEY and $PEERKEY stand for the lease of the node
// that is looked at and for that of a peer.
type garbage struct{ name, key, value, told string }

const (
	freeKey  = "10.244.240.0-24"
	goodAddr = "192.0.2.240"
	goodMAC  = "02:00:00:00:00:40"
)

func withMAC(mac string) string   { return strangerLease(goodAddr, mac) }
func withAddr(addr string) string { return strangerLease(addr, goodMAC) }

var garbages = []garbage{
	{"not JSON", freeKey, `{"PublicIP":`, "unexpected end of JSON input"},
	{"empty value", freeKey, ``, "unexpected end of JSON input"},
	{"null", freeKey, `null`, "no public address"},
	{"an array", freeKey, `[1,2]`, "cannot unmarshal array"},
	{"an array of leases", freeKey, `[` + withAddr(goodAddr) + `]`, "cannot unmarshal array"},
	{"a number", freeKey, `7`, "cannot unmarshal number"},
	{"a string", freeKey, `"x"`, "cannot unmarshal string"},
	{"fields of other types", freeKey, `{"PublicIP":7,"BackendType":[]}`, "cannot unmarshal"},
	{"binary", freeKey, "\x00\xff\xfe\x80", "invalid character"},
	{"nested deeper than any parser goes", freeKey, strings.Repeat("[", 20_000), "it has 20000 bytes"},
	{"half a megabyte", freeKey, `{"Node":"` + strings.Repeat("x", 500_000) + `"}`, "it has 500011 bytes"},
	{"a name that clears the screen", freeKey, `{"PublicIP":"192.0.2.249","BackendType":"vxlan","Node":"\u001b[2J"}`, "is not a node's name"},

	{"no backend", freeKey, `{"PublicIP":"192.0.2.240"}`, "no BackendType"},
	{"another backend", freeKey, `{"PublicIP":"192.0.2.240","BackendType":"host-gw"}`, "its backend is"},
	{"no backend data", freeKey, `{"PublicIP":"192.0.2.240","BackendType":"vxlan"}`, "no BackendData"},
	{"backend data null", freeKey, `{"PublicIP":"192.0.2.240","BackendType":"vxlan","BackendData":null}`, "no BackendData"},
	{"backend data an array", freeKey, `{"PublicIP":"192.0.2.240","BackendType":"vxlan","BackendData":[]}`, "cannot unmarshal array"},
	{"another VNI", freeKey, strings.Replace(withAddr(goodAddr), `"VNI":1`, `"VNI":2`, 1), "its VNI is 2"},

	{"MAC that is none", freeKey, withMAC("hello"), "is not a MAC address"},
	{"MAC empty", freeKey, withMAC(""), "is not a MAC address"},
	{"MAC too long", freeKey, withMAC("02:00:00:00:00:40:41:42"), "is not a MAC address"},
	{"MAC of a group", freeKey, withMAC("01:00:5e:00:00:01"), "is not one device's address"},
	{"MAC of all", freeKey, withMAC("ff:ff:ff:ff:ff:ff"), "is not one device's address"},
	{"MAC zero", freeKey, withMAC("00:00:00:00:00:00"), "is not one device's address"},
	{"MAC our own", freeKey, withMAC("$OWNMAC"), "is our own"},
	{"MAC of a peer", freeKey, withMAC("$PEERMAC"), "VTEP's MAC address"},

	{"public address of another family", freeKey, withAddr("2001:db8::1"), "is not an IPv4 address"},
	{"public address of the other family alone", freeKey, `{"PublicIP":"0.0.0.0","PublicIPv6":"2001:db8::1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:40"}}`, "no IPv4 address"},
	{"public address that is none", freeKey, withAddr("hello"), "unable to parse IP"},
	{"public address unspecified", freeKey, withAddr("0.0.0.0"), "no public address"},
	{"public address loopback", freeKey, withAddr("127.0.0.1"), "is not a host's"},
	{"public address multicast", freeKey, withAddr("224.0.0.1"), "is not a host's"},
	{"public address broadcast", freeKey, withAddr("255.255.255.255"), "is not a host's"},
	{"public address our own", freeKey, withAddr("$OWN"), "is our own"},
	{"public address of a peer", freeKey, withAddr("$PEER"), "is that of the older lease"},
	{"public address of a pod", freeKey, withAddr("10.244.7.7"), "is one of the pods' network"},

	{"subnet outside of the network", "8.8.8.0-24", withAddr(goodAddr), "outside of the configured Network"},
	{"subnet that is the network", "10.244.0.0-16", withAddr(goodAddr), "its subnet"},
	{"subnet larger than the network", "10.0.0.0-8", withAddr(goodAddr), "outside of the configured Network"},
	{"subnet over ours", "$OWNSUPER", withAddr(goodAddr), "its subnet"},
	{"subnet within ours", "$OWNSUB", withAddr(goodAddr), "its subnet"},
	{"subnet over a peer's", "$PEERSUPER", withAddr(goodAddr), "its subnet"},
	{"subnet within a peer's", "$PEERSUB", withAddr(goodAddr), "its subnet"},
	{"subnet over the underlay", "192.0.2.0-24", withAddr(goodAddr), "outside of the configured Network"},
	{"subnet that is everything", "0.0.0.0-0", withAddr(goodAddr), "every address there is"},
	{"subnet that is everything of both families", "0.0.0.0-0&::-0", withAddr(goodAddr), "every address there is"},
	{"subnet of the other family", "0.0.0.0-0&fd42:0:0:3::-64", withAddr(goodAddr), "its subnet"},
	{"subnet with bits behind its length", "10.244.240.5-24", withAddr(goodAddr), "bits set behind its prefix length"},
	{"subnet multicast", "224.0.0.0-24", withAddr(goodAddr), "outside of the configured Network"},
	{"subnet loopback", "127.0.0.0-24", withAddr(goodAddr), "outside of the configured Network"},

	{"key that is no subnet", "hello", withAddr(goodAddr), "is not a subnet"},
	{"key with a slash", "10.244.240.0/24", withAddr(goodAddr), "is not a subnet"},
	{"key with something below it", freeKey + "/x", withAddr(goodAddr), "is not a subnet"},
	{"key without a name", "", withAddr(goodAddr), "is not a subnet"},
	{"key with a long prefix", "10.244.240.0-33", withAddr(goodAddr), "is not a subnet"},
	{"key in another spelling", "10.244.240.0-024", withAddr(goodAddr), "is not a subnet"},
	{"key in IPv4-mapped form", "::ffff:10.244.240.0-120", withAddr(goodAddr), "is not an IPv4 subnet"},
	{"key with a newline", "10.244.240.0-24\n", withAddr(goodAddr), "is not a subnet"},
	{"key as long as a book", strings.Repeat("x", 500_000), withAddr(goodAddr), "is too long for a subnet"},
	{"key in binary", "\x00\xff", withAddr(goodAddr), "is not a subnet"},
}

// TestGarbageAmongTheLeases puts what is no lease, or one that makes no sense,
// beside the leases of a cluster: it is named once, and changes nothing else.
func TestGarbageAmongTheLeases(t *testing.T) {
	t.Parallel()
	l := up(t, Options{Nodes: 3, Pods: 1})
	v := newVictim(t, l)
	right := rows(t.Context(), v.Host)
	own, peer := l.lease(t, v.Host), l.lease(t, l.Nodes()[1])
	around := func(l subnet.Lease, bits int) string {
		p, err := l.Subnets[subnet.IPv4].Addr().Prefix(bits)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%s-%d", p.Addr(), bits)
	}
	fill := strings.NewReplacer(
		"$OWNMAC", macOf(own, subnet.IPv4), "$PEERMAC", macOf(peer, subnet.IPv4),
		"$OWNSUPER", around(own, 20), "$OWNSUB", around(own, 25), "$PEERSUPER", around(peer, 20), "$PEERSUB", around(peer, 25),
		"$OWN", own.Addrs[subnet.IPv4].String(), "$PEER", peer.Addrs[subnet.IPv4].String())

	probe := v.probe(t)
	for _, g := range garbages {
		t.Run(g.name, func(t *testing.T) {
			log := v.journal(t)
			key := subnetsDir + fill.Replace(g.key)
			begin := time.Now()
			l.put(t, key, fill.Replace(g.value))
			heals(t, func() error {
				if log.count(t, "is left out {") == 0 {
					return fmt.Errorf("nothing is told:\n%s", log.text(t))
				}
				return nil
			})
			if took := time.Since(begin); took > time.Second {
				t.Logf("told after %s", took)
			}
			if text := log.text(t); !strings.Contains(text, g.told) {
				t.Errorf("the log does not say %q:\n%.1000s", g.told, text)
			}
			if err := rowsAre(t, v.Host, right)(); err != nil {
				t.Error(err)
			}
			if bad := metric(t, v.Host, "tulle_bad_keys") + metric(t, v.Host, `tulle_peers{state="left out"}`); bad != 1 {
				t.Errorf("metrics count %v that are left out, want 1", bad)
			}
			l.put(t, key, fill.Replace(g.value)) // the same again is nothing new
			l.del(t, key)
			heals(t, log.tells(t, "is gone or right now"))
			log.wantOnce(t, "is left out {")
			log.wantOnce(t, "is gone or right now")
			if n := log.count(t, " WARN ") + log.count(t, " ERROR "); n != 1 {
				t.Errorf("%d warnings in the log, want 1:\n%.2000s", n, log.text(t))
			}
			if err := rowsAre(t, v.Host, right)(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("all at once, and a restart", func(t *testing.T) {
		for _, g := range garbages {
			l.put(t, subnetsDir+fill.Replace(g.key), fill.Replace(g.value))
		}
		if err := v.RestartDaemon(t.Context(), unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := rowsAre(t, v.Host, right)(); err != nil {
			t.Error(err)
		}
		wantRight(t, v.Host)
	})
	t.Run("a thousand at once, and a good one behind them", func(t *testing.T) {
		for _, g := range garbages {
			l.del(t, subnetsDir+fill.Replace(g.key))
		}
		heals(t, func() error {
			if bad := metric(t, v.Host, "tulle_bad_keys") + metric(t, v.Host, `tulle_peers{state="left out"}`); bad > 0 {
				return fmt.Errorf("metrics count %v that are left out, want none", bad)
			}
			return nil
		})
		log, changes := v.journal(t), metric(t, v.Host, "tulle_kernel_changes_total")
		const many, each = 1000, 50 // in one transaction
		for i := 0; i < many; i += each {
			var puts []map[string]keyValue
			for n := i; n < i+each; n++ {
				puts = append(puts, map[string]keyValue{"requestPut": {Key: fmt.Appendf(nil, "%sgarbage%d", subnetsDir, n), Value: []byte("{")}})
			}
			l.etcd(t, "kv/txn", map[string]any{"success": puts}, nil)
		}
		begin := time.Now()
		const good = subnetsDir + "10.244.250.0-24"
		l.put(t, good, strangerLease("192.0.2.250", stray))
		heals(t, hasRoute(t, v.Host, "10.244.250.0/24"))
		t.Logf("a new peer was heard of after %s", time.Since(begin).Round(time.Millisecond))
		l.del(t, good)
		heals(t, rowsAre(t, v.Host, right))
		if bad := metric(t, v.Host, "tulle_bad_keys"); bad != many {
			t.Errorf("metrics count %v bad keys, want %d", bad, many)
		}
		if n := log.count(t, "is left out {"); n != many {
			t.Errorf("%d lines in the log for %d keys", n, many)
		}
		// A peer is five rows, which come and go.
		if n := metric(t, v.Host, "tulle_kernel_changes_total") - changes; n > 10 {
			t.Errorf("%v rows of the kernel were changed, want those of one peer", n)
		}
		wantRight(t, v.Host)
	})
	wantNoneLost(t, probe)
}
