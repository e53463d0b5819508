package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"tulle/internal/etcdtest"
	"tulle/subnet"
	"tulle/subnet/etcd"
)

const prefix = "/test/network"

// world is an etcd with a network, and a client of its own to meddle with.
type world struct {
	url    string
	client *clientv3.Client
}

func newWorld(t *testing.T, network string) world {
	t.Helper()
	w := worldAt(t, etcdtest.Start(t))
	if network != "" {
		w.put(t, "/config", network)
	}
	return w
}

func worldAt(t *testing.T, url string) world {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return world{url, client}
}

// newMortal is a world whose etcd can be stopped, and started again at the same place
// with the data of some folder.
func newMortal(t *testing.T, dir string) (w world, stop func(), start func(dir string)) {
	t.Helper()
	url, end := etcdtest.Run(t, dir, "127.0.0.1:0")
	t.Cleanup(func() { end() })
	return worldAt(t, url), func() { end() }, func(dir string) {
		_, end = etcdtest.Run(t, dir, strings.TrimPrefix(url, "http://"))
	}
}

func (w world) put(t *testing.T, key, value string) int64 {
	t.Helper()
	r, err := w.client.Put(t.Context(), prefix+key, value)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

func (w world) delete(t *testing.T, key string, opts ...clientv3.OpOption) {
	t.Helper()
	if _, err := w.client.Delete(t.Context(), prefix+key, opts...); err != nil {
		t.Fatal(err)
	}
}

// get returns a key's value, the etcd lease and the revision of its last change.
func (w world) get(t *testing.T, key string) (value string, lease, rev int64) {
	t.Helper()
	r, err := w.client.Get(t.Context(), prefix+key)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return "", 0, 0
	}
	return string(r.Kvs[0].Value), r.Kvs[0].Lease, r.Kvs[0].ModRevision
}

func (w world) revision(t *testing.T) int64 {
	t.Helper()
	r, err := w.client.Get(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

func (w world) open(t *testing.T) *etcd.Store { return w.openLog(t, zap.NewNop()) }

func (w world) openLog(t *testing.T, log *zap.Logger) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{w.url}, Prefix: prefix}, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// node is what a node of this name and address claims.
func node(name, addr string, prefer ...string) func(subnet.Network) (etcd.Claim, error) {
	c := etcd.Claim{Lease: subnet.Lease{Node: name, Type: subnet.VXLAN}}
	c.Lease.Addrs[subnet.IPv4] = netip.MustParseAddr(addr)
	c.Lease.Data[subnet.IPv4] = `{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"}`
	for _, p := range prefer {
		c.Prefer[subnet.IPv4] = netip.MustParsePrefix(p)
	}
	return func(subnet.Network) (etcd.Claim, error) { return c, nil }
}

const ttl = time.Hour

func acquire(t *testing.T, s *etcd.Store, claim func(subnet.Network) (etcd.Claim, error)) subnet.Lease {
	t.Helper()
	l, err := s.Acquire(t.Context(), ttl, claim)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// soon waits for what other goroutines bring about.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("did not happen: %s", what)
}

const small = `{"Network": "10.244.0.0/16"}`

func TestLeaseIsWrittenAsDocumented(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	l := acquire(t, w.open(t), node("node1", "192.0.2.10", "10.244.60.0/24"))
	value, id, _ := w.get(t, "/subnets/10.244.60.0-24")
	want := `{"PublicIP":"192.0.2.10","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"},"Node":"node1"}`
	if value != want {
		t.Errorf("lease %v is written as\n%s, want\n%s", l, value, want)
	}
	if r, err := w.client.TimeToLive(t.Context(), clientv3.LeaseID(id)); err != nil || r.GrantedTTL != int64(ttl/time.Second) {
		t.Errorf("etcd lease = %+v, %v, want one granted for %s", r, err, ttl)
	}
}

func TestAcquire(t *testing.T) {
	t.Parallel()
	flannels := `{"PublicIP":"192.0.2.10","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:99"}}`
	for _, test := range []struct {
		name  string
		there map[string]string // keys below the prefix, without an etcd lease
		claim func(subnet.Network) (etcd.Claim, error)
		want  string // the subnet, or what the error contains
	}{
		{"a node's own lease by its name, though its address changed",
			map[string]string{"/subnets/10.244.7.0-24": strings.Replace(strings.Replace(flannels, `}}`, `},"Node":"node1"}`, 1), "192.0.2.10", "192.0.2.99", 1)},
			node("node1", "192.0.2.10", "10.244.8.0/24"), "10.244.7.0/24"},
		{"flannel's lease by public address",
			map[string]string{"/subnets/10.244.7.0-24": flannels}, node("node1", "192.0.2.10"), "10.244.7.0/24"},
		{"what it had before, if nobody has it", nil, node("node1", "192.0.2.10", "10.244.8.0/24"), "10.244.8.0/24"},
		{"another subnet, if somebody else has what it had before",
			map[string]string{"/subnets/10.244.8.0-24": strings.Replace(flannels, "192.0.2.10", "192.0.2.77", 1)},
			node("node1", "192.0.2.10", "10.244.8.0/24"), "10.244.193.0/24"},
		{"what it had before lies outside of the network", nil, node("node1", "192.0.2.10", "10.99.8.0/24"), "10.244.193.0/24"},
		{"another node has the address",
			map[string]string{"/subnets/10.244.7.0-24": strings.Replace(flannels, `}}`, `},"Node":"other"}`, 1)},
			node("node1", "192.0.2.10"), "taken by another node"},
		{"a key with a value that makes no sense is not free",
			map[string]string{"/subnets/10.244.193.0-24": "garbage"}, node("node1", "192.0.2.10"), "10.244.194.0/24"},
		{"a larger lease is not free inside",
			map[string]string{"/subnets/10.244.192.0-21": strings.Replace(flannels, "192.0.2.10", "192.0.2.77", 1)},
			node("node1", "192.0.2.10"), "10.244.200.0/24"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, small)
			for key, value := range test.there {
				w.put(t, key, value)
			}
			l, err := w.open(t).Acquire(t.Context(), ttl, test.claim)
			got := l.Subnets[subnet.IPv4].String()
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("Acquire = %s, want %s", got, test.want)
			}
		})
	}
}

// A network that gets a family, or loses one, leaves a node what it has of the
// other: its pods keep their addresses.
func TestNetworkOfOtherFamilies(t *testing.T) {
	t.Parallel()
	const both = `{"EnableIPv6":true,"Network":"10.244.0.0/16","IPv6Network":"fd42::/48"}`
	own := `{"PublicIP":"192.0.2.10","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"0a:00:00:00:00:01"},"Node":"node1"}`
	foreign := strings.Replace(strings.Replace(own, "192.0.2.10", "192.0.2.77", 1), "node1", "node7", 1)
	four, six := netip.MustParsePrefix("10.244.7.0/24"), netip.MustParsePrefix("fd42:0:0:7::/64")
	for _, test := range []struct {
		name, network string
		there         map[string]string
		prefer        [2]netip.Prefix
		want          string // the lease's key
		reserved      bool
	}{
		{"IPv6 comes", both, map[string]string{"10.244.7.0-24": own}, [2]netip.Prefix{four}, "10.244.7.0-24&fd42:0:0:a918::-64", true},
		{"IPv6 comes, and nothing is remembered", both, map[string]string{"10.244.7.0-24": own}, [2]netip.Prefix{}, "10.244.7.0-24&fd42:0:0:a918::-64", true},
		{"IPv6 comes, and the lease has run out", both, nil, [2]netip.Prefix{four}, "10.244.7.0-24&fd42:0:0:a918::-64", false},
		{"IPv6 comes, and another has what was remembered", both, map[string]string{"10.244.7.0-24": foreign}, [2]netip.Prefix{four}, "10.244.193.0-24&fd42:0:0:a918::-64", false},
		{"IPv6 goes", small, map[string]string{"10.244.7.0-24&fd42:0:0:7::-64": own}, [2]netip.Prefix{four, six}, "10.244.7.0-24", true},
		{"IPv4 goes", `{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd42::/48"}`, map[string]string{"10.244.7.0-24&fd42:0:0:7::-64": own}, [2]netip.Prefix{four, six},
			"0.0.0.0-0&fd42:0:0:7::-64", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.network)
			for key, value := range test.there {
				w.put(t, "/subnets/"+key, value)
			}
			l := acquire(t, w.open(t), func(n subnet.Network) (etcd.Claim, error) {
				c, err := node("node1", "192.0.2.10")(n)
				c.Prefer = test.prefer
				return c, err
			})
			if l.Key() != test.want {
				t.Errorf("the lease is %s, want %s", l.Key(), test.want)
			}
			if _, id, _ := w.get(t, "/subnets/"+test.want); (id == 0) != test.reserved {
				t.Errorf("the key %s has the etcd lease %x, want none is %t", test.want, id, test.reserved)
			}
			for key, value := range test.there {
				if left, _, _ := w.get(t, "/subnets/"+key); key != test.want && value == own && left != "" {
					t.Errorf("the old lease %s is still there", key)
				}
			}
		})
	}
}

// A restart writes nothing, so no other node hears of it.
func TestAcquireAgainWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	first := acquire(t, w.open(t), node("node1", "192.0.2.10"))
	rev := w.revision(t)
	if again := acquire(t, w.open(t), node("node1", "192.0.2.10")); again != first {
		t.Errorf("lease after restart = %v, want %v", again, first)
	}
	if got := w.revision(t); got != rev {
		t.Errorf("revision after restart = %d, want %d: nothing written", got, rev)
	}
}

func TestReservationStaysOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	w.put(t, "/subnets/10.244.7.0-24", `{"PublicIP":"192.0.2.10","PublicIPv6":null,"BackendType":"vxlan"}`)
	acquire(t, w.open(t), node("node1", "192.0.2.10"))
	if value, id, _ := w.get(t, "/subnets/10.244.7.0-24"); id != 0 || !strings.Contains(value, "node1") {
		t.Errorf("reservation became %s with etcd lease %x, want node1's and no etcd lease", value, id)
	}
}

func TestManyNodesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `{"Network": "10.244.0.0/16", "SubnetLen": 22}`) // 63 subnets
	const nodes = 40
	var mu sync.Mutex
	seen := map[netip.Prefix]string{}
	var wg sync.WaitGroup
	for i := range nodes {
		s := w.open(t)
		wg.Go(func() {
			l, err := s.Acquire(t.Context(), ttl, node(fmt.Sprintf("node%d", i), fmt.Sprintf("192.0.2.%d", 10+i)))
			mu.Lock()
			defer mu.Unlock()
			if other, taken := seen[l.Subnets[subnet.IPv4]]; err != nil || taken {
				t.Errorf("node%d: lease %v, error %v, subnet also of %q", i, l, err, other)
			}
			seen[l.Subnets[subnet.IPv4]] = l.Node
		})
	}
	wg.Wait()
}

func TestNetworkFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `{"Network": "10.244.0.0/22", "SubnetLen": 24}`)
	for i := range 3 {
		acquire(t, w.open(t), node(fmt.Sprintf("node%d", i), fmt.Sprintf("192.0.2.%d", 10+i)))
	}
	_, err := w.open(t).Acquire(t.Context(), ttl, node("one-too-many", "192.0.2.99"))
	if !errors.Is(err, subnet.ErrFull) || !strings.Contains(err.Error(), "all 3 subnets") {
		t.Errorf("Acquire in a full network = %v, want %v and the count", err, subnet.ErrFull)
	}
}

// Nobody has configured a network: the node says so, once, and waits.
func TestWaitsForNetwork(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	core, logs := observer.New(zap.WarnLevel)
	s := w.openLog(t, zap.New(core))
	got := make(chan subnet.Lease)
	go func() {
		l, err := s.Acquire(t.Context(), ttl, node("node1", "192.0.2.10"))
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	soon(t, "the node says that it waits", func() bool { return logs.Len() == 1 })
	w.put(t, "/config", `{"Network": "nonsense", "SubnetLen": 99}`)
	soon(t, "the node says what is wrong", func() bool { return logs.Len() == 2 })
	w.put(t, "/config", small)
	if l := <-got; !l.Subnets[subnet.IPv4].IsValid() {
		t.Errorf("lease = %v, want one", l)
	}
	text := fmt.Sprint(logs.All()[0].ContextMap(), logs.All()[1].ContextMap())
	for _, want := range []string{"tullectl network set --network 10.244.0.0/16", `Network: "nonsense"`} {
		if !strings.Contains(text, want) {
			t.Errorf("log = %s, want it to contain %s", text, want)
		}
	}
}

// keep runs Keep and Watch as the daemon does, and returns the newest snapshot
// and the first error.
func keep(t *testing.T, s *etcd.Store) (newest func() subnet.Snapshot, failed <-chan error) {
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var last subnet.Snapshot
	errs := make(chan error, 2)
	var wg sync.WaitGroup
	wg.Go(func() { errs <- s.Keep(ctx, func(subnet.Lease) {}) })
	wg.Go(func() {
		errs <- s.Watch(ctx, func(snapshot subnet.Snapshot) {
			mu.Lock()
			last = snapshot
			mu.Unlock()
		})
	})
	wg.Go(func() { _ = s.Health(ctx, func(bool) {}) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return func() subnet.Snapshot {
		mu.Lock()
		defer mu.Unlock()
		return last
	}, errs
}

func TestWatchTellsAllChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	s := w.open(t)
	acquire(t, s, node("node1", "192.0.2.10"))
	newest, _ := keep(t, s)
	soon(t, "own lease is told", func() bool { return newest().Leases.Len() == 1 })

	acquire(t, w.open(t), node("node2", "192.0.2.11", "10.244.77.0/24"))
	soon(t, "a peer comes", func() bool { return newest().Leases.Len() == 2 })

	w.put(t, "/subnets/10.244.9.0-24", "[]")
	w.put(t, "/subnets/not-a-subnet", small)
	w.put(t, "/subnets-x", small) // none of ours
	soon(t, "garbage is named", func() bool { return len(newest().Faults) == 2 })
	if got := newest().Leases.Len(); got != 2 {
		t.Errorf("%d leases beside garbage, want 2", got)
	}
	w.delete(t, "/subnets/10.244.9.0-24")
	soon(t, "garbage is gone", func() bool { return len(newest().Faults) == 1 })

	w.put(t, "/config", "nonsense")
	soon(t, "the network is not valid", func() bool { return newest().NetworkErr != nil })
	w.delete(t, "/subnets/10.244.77.0-24")
	soon(t, "the peer goes", func() bool { return newest().Leases.Len() == 1 })
}

func TestLostLeaseIsTakenAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		lose func(t *testing.T, w world, key string)
	}{
		{"key deleted", func(t *testing.T, w world, key string) { w.delete(t, key) }},
		{"etcd lease revoked", func(t *testing.T, w world, key string) {
			_, id, _ := w.get(t, key)
			if _, err := w.client.Revoke(t.Context(), clientv3.LeaseID(id)); err != nil {
				t.Fatal(err)
			}
		}},
		{"etcd emptied, and a network written again", func(t *testing.T, w world, _ string) {
			w.delete(t, "/", clientv3.WithPrefix())
			time.Sleep(50 * time.Millisecond) // any time will do
			w.put(t, "/config", small)
		}},
		{"value altered", func(t *testing.T, w world, key string) {
			value, id, _ := w.get(t, key)
			altered := strings.Replace(value, "0a:00", "0a:99", 1)
			if _, err := w.client.Put(t.Context(), prefix+key, altered, clientv3.WithLease(clientv3.LeaseID(id))); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, small)
			s := w.open(t)
			l := acquire(t, s, node("node1", "192.0.2.10"))
			newest, failed := keep(t, s)
			soon(t, "own lease is told", func() bool { return newest().Leases.Len() == 1 })
			key := "/subnets/" + l.Key()
			_, _, before := w.get(t, key)
			test.lose(t, w, key)
			soon(t, "the lease is back as it was", func() bool {
				value, id, rev := w.get(t, key)
				return value == l.Value() && id != 0 && rev > before
			})
			select {
			case err := <-failed:
				t.Errorf("ended with %v", err)
			default:
			}
		})
	}
}

func TestTakenByAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	s := w.open(t)
	l := acquire(t, s, node("node1", "192.0.2.10"))
	newest, failed := keep(t, s)
	soon(t, "own lease is told", func() bool { return newest().Leases.Len() == 1 })
	thief := l
	thief.Node, thief.Addrs[subnet.IPv4] = "clone", netip.MustParseAddr("192.0.2.66")
	w.put(t, "/subnets/"+l.Key(), thief.Value())
	if err := <-failed; !errors.Is(err, etcd.ErrTaken) || !strings.Contains(err.Error(), "clone") {
		t.Errorf("ended with %v, want %v and the other's name", err, etcd.ErrTaken)
	}
}

// Etcd tells a watch of what came before it only after a while, and nobody has to
// wait for that to know of his own lease.
func TestOwnLeaseIsKnownAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `{"Network": "10.244.0.0/16"}`)
	first := func(s *etcd.Store) (first subnet.Snapshot) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_ = s.Watch(ctx, func(now subnet.Snapshot) {
			if first.Rev == 0 {
				first = now
			}
			cancel()
		})
		return first
	}
	check := func(when string, l subnet.Lease, s *etcd.Store) {
		t.Helper()
		got := first(s).Leases
		read, err := w.open(t).Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		have, _ := got.Get(l.Key())
		if want, _ := read.Leases.Get(l.Key()); have != want || have.Lease != l || got.Len() != 1 {
			t.Errorf("%s the first snapshot has %d leases and ours is %+v, want it alone as %+v", when, got.Len(), have, want)
		}
	}
	s := w.open(t)
	check("new,", acquire(t, s, node("node1", "192.0.2.10")), s)
	s = w.open(t)
	check("at another address", acquire(t, s, node("node1", "192.0.2.11")), s)
	w.put(t, "/config", `{"Network": "10.55.0.0/16"}`)
	s = w.open(t)
	check("in another network", acquire(t, s, node("node1", "192.0.2.11")), s)
}

// A key that is another way to write our subnet is garbage like any other.
func TestAnotherKeyForOurSubnet(t *testing.T) {
	t.Parallel()
	w := newWorld(t, `{"Network": "10.244.0.0/16", "EnableIPv6": true, "IPv6Network": "fd42::/48"}`)
	s := w.open(t)
	l := acquire(t, s, node("node1", "192.0.2.10"))
	newest, failed := keep(t, s)
	soon(t, "own lease is told", func() bool { return newest().Leases.Len() == 1 })
	alias := "/subnets/" + strings.ToUpper(l.Key())
	thief := l
	thief.Node, thief.Addrs[subnet.IPv4] = "clone", netip.MustParseAddr("192.0.2.66")
	w.put(t, alias, thief.Value())
	soon(t, "it is named", func() bool { return len(newest().Faults) == 1 })
	w.delete(t, alias)
	soon(t, "it is gone", func() bool { return len(newest().Faults) == 0 })
	if r, _ := newest().Leases.Get(l.Key()); r.Lease != l {
		t.Errorf("our lease is %v now, want %v", r.Lease, l)
	}
	select {
	case err := <-failed:
		t.Errorf("ended with %v", err)
	default:
	}
}

// Renewal writes no key: other nodes hear nothing of it.
func TestRenewalWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	s := w.open(t)
	short := 10 * time.Second // etcd renews after a third of it
	l, err := s.Acquire(t.Context(), short, node("node1", "192.0.2.10"))
	if err != nil {
		t.Fatal(err)
	}
	newest, _ := keep(t, s)
	soon(t, "own lease is told", func() bool { return newest().Leases.Len() == 1 })
	rev := w.revision(t)
	_, id, _ := w.get(t, "/subnets/"+l.Key())
	renewed := func() bool { // the time left goes up again
		r, err := w.client.TimeToLive(t.Context(), clientv3.LeaseID(id))
		return err == nil && r.TTL < int64(short/time.Second)-2
	}
	soon(t, "time passes", renewed)
	soon(t, "the lease is renewed", func() bool { return !renewed() })
	if got := w.revision(t); got != rev {
		t.Errorf("revision after a renewal = %d, want %d", got, rev)
	}
}

// Every node renews so often that another can tell whether it lives.
func TestRenewal(t *testing.T) {
	t.Parallel()
	for ttl, want := range map[time.Duration]time.Duration{
		24 * time.Hour: time.Minute, 3 * time.Minute: time.Minute, 30 * time.Second: 10 * time.Second,
	} {
		if got := etcd.Renewal(ttl); got != want {
			t.Errorf("Renewal(%s) = %s, want %s", ttl, got, want)
		}
	}
}

// The watch can't go on where it stopped, because etcd has forgotten what
// happened in between.
func TestWatchAfterCompaction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w, stop, start := newMortal(t, dir)
	w.put(t, "/config", small)
	s := w.open(t)
	acquire(t, s, node("node1", "192.0.2.10"))
	newest, _ := keep(t, s)
	soon(t, "own lease is told", func() bool { return newest().Leases.Len() == 1 })

	// While the node hears nothing, others change and compact; then etcd is back
	// where the node looks for it.
	stop()
	elsewhere, stopElsewhere := etcdtest.Run(t, dir, "127.0.0.1:0")
	meddle := worldAt(t, elsewhere)
	meddle.put(t, "/subnets/10.244.9.0-24", "garbage")
	meddle.delete(t, "/subnets/10.244.9.0-24")
	rev := meddle.put(t, "/subnets/10.244.10.0-24", "garbage")
	if _, err := meddle.client.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	meddle.client.Close()
	stopElsewhere()
	start(dir)
	soon(t, "what etcd holds now is told", func() bool { return newest().Faults["10.244.10.0-24"] != nil })
}

func TestRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	ctx := t.Context()
	for _, err := range []error{
		second(w.client.UserAdd(ctx, "root", "secret")), second(w.client.RoleAdd(ctx, "root")),
		second(w.client.UserGrantRole(ctx, "root", "root")), second(w.client.AuthEnable(ctx)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct{ name, user, password, want string }{
		{"wrong password", "root", "wrong", "wrong user name or password"},
		{"no password", "", "", "--etcd-username"},
		{"right password", "root", "secret", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, err := etcd.Open(ctx, etcd.Config{Endpoints: []string{w.url}, Prefix: prefix, Username: test.user, Password: test.password}, zap.NewNop())
			if err == nil {
				defer s.Close()
				_, err = s.Acquire(ctx, ttl, node("node1", "192.0.2.10"))
			}
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (!errors.Is(err, etcd.ErrRefused) || !strings.Contains(err.Error(), test.want)):
				t.Errorf("error = %v, want %v: %s", err, etcd.ErrRefused, test.want)
			}
		})
	}
}

// Somebody changes our password, or takes our right away, while we run: that is
// told once, nothing ends, and all is right again when it is given back.
func TestRefusedWhileRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	ctx := t.Context()
	whole := clientv3.GetPrefixRangeEnd(prefix + "/")
	right := clientv3.PermissionType(clientv3.PermReadWrite)
	for _, err := range []error{
		second(w.client.UserAdd(ctx, "root", "secret")), second(w.client.RoleAdd(ctx, "root")), second(w.client.UserGrantRole(ctx, "root", "root")),
		second(w.client.UserAdd(ctx, "tulle", "word")), second(w.client.RoleAdd(ctx, "nodes")), second(w.client.UserGrantRole(ctx, "tulle", "nodes")),
		second(w.client.RoleGrantPermission(ctx, "nodes", prefix+"/", whole, right)), second(w.client.AuthEnable(ctx)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	w.client, err = clientv3.New(clientv3.Config{Endpoints: []string{w.url}, Username: "root", Password: "secret", Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer w.client.Close()
	core, logs := observer.New(zap.InfoLevel)
	s, err := etcd.Open(ctx, etcd.Config{Endpoints: []string{w.url}, Prefix: prefix, Username: "tulle", Password: "word"}, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l := acquire(t, s, node("node1", "192.0.2.10"))
	newest, failed := keep(t, s)
	soon(t, "own lease is told", func() bool { return newest().Leases.Len() == 1 })

	for _, test := range []struct {
		name, told string
		away, back func() error
	}{
		{"password changed", "wrong user name or password",
			func() error { return second(w.client.UserChangePassword(ctx, "tulle", "other")) },
			func() error { return second(w.client.UserChangePassword(ctx, "tulle", "word")) }},
		{"right taken away", "the user has no right to these keys",
			func() error { return second(w.client.RoleRevokePermission(ctx, "nodes", prefix+"/", whole)) },
			func() error { return second(w.client.RoleGrantPermission(ctx, "nodes", prefix+"/", whole, right)) }},
		{"role taken away", "the user has no right to these keys",
			func() error { return second(w.client.UserRevokeRole(ctx, "tulle", "nodes")) },
			func() error { return second(w.client.UserGrantRole(ctx, "tulle", "nodes")) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := logs.Len()
			since := func() string { return fmt.Sprint(logs.All()[before:]) }
			if err := test.away(); err != nil {
				t.Fatal(err)
			}
			w.delete(t, "/subnets/"+l.Key()) // so that there is something to ask for
			soon(t, "the refusal is told", func() bool { return strings.Contains(since(), test.told) })
			if err := test.back(); err != nil {
				t.Fatal(err)
			}
			soon(t, "the lease is back", func() bool { value, id, _ := w.get(t, "/subnets/"+l.Key()); return value == l.Value() && id != 0 })
			soon(t, "it is told", func() bool { return newest().Leases.Len() == 1 })
			w.put(t, "/subnets/10.244.77.0-24", l.Value())
			soon(t, "changes are followed", func() bool { _, ok := newest().Leases.Get("10.244.77.0-24"); return ok })
			w.delete(t, "/subnets/10.244.77.0-24")
			soon(t, "changes are followed", func() bool { return newest().Leases.Len() == 1 })
			if n := strings.Count(since(), test.told); n != 1 {
				t.Errorf("it was told %d times, want once: %s", n, since())
			}
			select {
			case err := <-failed:
				t.Errorf("ended with %v", err)
			default:
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

// Etcd is away: that is told once, with the cause, and its return once.
func TestSilentWhileAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	url, stop := etcdtest.Run(t, dir, "127.0.0.1:0")
	stop()
	core, logs := observer.New(zap.InfoLevel)
	w := world{url: url}
	s := w.openLog(t, zap.New(core))
	done := make(chan error, 1)
	go func() {
		_, err := s.Acquire(t.Context(), ttl, node("node1", "192.0.2.10"))
		done <- err
	}()
	soon(t, "it is told that etcd is away", func() bool { return logs.Len() > 0 })
	if text := fmt.Sprint(logs.All()[0].ContextMap()); !strings.Contains(text, "connection refused") {
		t.Errorf("log = %s, want the cause", text)
	}
	_, stop = etcdtest.Run(t, dir, strings.TrimPrefix(url, "http://"))
	t.Cleanup(stop)
	soon(t, "it waits for a network", func() bool { return logs.FilterMessage("waiting for a network").Len() == 1 })
	if got := logs.FilterMessage("etcd answers again").Len(); got != 1 {
		t.Errorf("its return was told %d times, want once", got)
	}
	if got := logs.FilterMessageSnippet("etcd gives no answer").Len(); got != 1 {
		t.Errorf("its absence was told %d times, want once: %v", got, logs.All())
	}
}

// Somebody put an empty etcd in the place of the old one. Its revisions begin
// anew, so a watch that goes on from the old ones would hear nothing.
func TestEtcdReplacedByEmptyOne(t *testing.T) {
	t.Parallel()
	w, stop, start := newMortal(t, t.TempDir())
	for range 50 {
		w.put(t, "/config", small)
	}
	s := w.open(t)
	l := acquire(t, s, node("node1", "192.0.2.10"))
	newest, _ := keep(t, s)
	soon(t, "own lease is told", func() bool { return newest().Leases.Len() == 1 })

	stop()
	start(t.TempDir())
	soon(t, "the loss of all is told", func() bool { return newest().NetworkErr != nil && newest().Leases.Len() == 0 })
	w.put(t, "/config", small)
	soon(t, "the lease is back as it was", func() bool {
		value, id, _ := w.get(t, "/subnets/"+l.Key())
		return value == l.Value() && id != 0
	})
	soon(t, "own lease is told again", func() bool { return newest().Leases.Len() == 1 })
}

// The same before there is a network to wait for: what was waited for is a revision
// that the new etcd will not come to for long.
func TestEtcdReplacedWhileWaitingForANetwork(t *testing.T) {
	t.Parallel()
	w, stop, start := newMortal(t, t.TempDir())
	for range 50 {
		w.put(t, "/config", small)
	}
	w.delete(t, "/config")
	core, logs := observer.New(zap.WarnLevel)
	s := w.openLog(t, zap.New(core))
	got := make(chan subnet.Lease, 1)
	go func() {
		l, err := s.Acquire(t.Context(), ttl, node("node1", "192.0.2.10"))
		if err != nil {
			t.Error(err)
		}
		got <- l
	}()
	soon(t, "the node says that it waits", func() bool { return logs.Len() == 1 })
	stop()
	start(t.TempDir())
	w.put(t, "/config", small)
	soon(t, "the lease is taken", func() bool { return len(got) == 1 })
}

// An etcd that was emptied has come to more revisions than it had before, by the
// time that a node reaches it again.
func TestEtcdReplacedByOneThatIsAhead(t *testing.T) {
	t.Parallel()
	w, stop, start := newMortal(t, t.TempDir())
	w.put(t, "/config", small)
	s := w.open(t)
	l := acquire(t, s, node("node1", "192.0.2.10"))
	gate := newGate(t, w.url)
	far, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{gate.url}, Prefix: prefix}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	own := acquire(t, far, node("node2", "192.0.2.11"))
	newest, _ := keep(t, far)
	soon(t, "both leases are told", func() bool { return newest().Leases.Len() == 2 })

	gate.shut()
	stop()
	start(t.TempDir())
	w.put(t, "/config", small)
	acquire(t, w.open(t), node("node3", "192.0.2.12"))
	for range 50 {
		w.put(t, "/config", small)
	}
	gate.open()
	soon(t, "the new peer is told, and the one that is no more is not", func() bool {
		_, gone := newest().Leases.Get(l.Key())
		_, there := newest().Leases.Get(own.Key())
		return !gone && there && newest().Leases.Len() == 2
	})
}

// The same with a backup in which our own lease is as it is now.
func TestEtcdRestoredAndAhead(t *testing.T) {
	t.Parallel()
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "backup")
	w, stop, start := newMortal(t, dir)
	w.put(t, "/config", small)
	acquire(t, w.open(t), node("node2", "192.0.2.11"))
	stop()
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	for range 2 { // each of which elects a leader
		start(dir)
		stop()
	}
	start(dir)
	later := acquire(t, w.open(t), node("node1", "192.0.2.10"))
	gate := newGate(t, w.url)
	far, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{gate.url}, Prefix: prefix}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	acquire(t, far, node("node2", "192.0.2.11"))
	newest, _ := keep(t, far)
	soon(t, "both leases are told", func() bool { return newest().Leases.Len() == 2 })

	gate.shut()
	stop()
	start(backup)
	for range 50 {
		w.put(t, "/config", small)
	}
	gate.open()
	soon(t, "the peer of after the backup is gone", func() bool {
		_, there := newest().Leases.Get(later.Key())
		return !there && newest().Leases.Len() == 1
	})
}

// The connection is lost and comes back to the same etcd: ten thousand nodes at once
// must not read ten thousand leases each.
func TestReconnectReadsLittle(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	const others = 200
	for i := range others {
		l, _ := node(fmt.Sprintf("other%d", i), fmt.Sprintf("192.0.3.%d", i))(subnet.Network{})
		l.Lease.Subnets[subnet.IPv4] = netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", i))
		w.put(t, "/subnets/"+l.Lease.Key(), l.Lease.Value())
	}
	gate := newGate(t, w.url)
	s, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{gate.url}, Prefix: prefix}, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if _, err := s.Acquire(t.Context(), 6*time.Second, node("node1", "192.0.2.10")); err != nil {
		t.Fatal(err)
	}
	newest, _ := keep(t, s)
	soon(t, "all leases are told", func() bool { return newest().Leases.Len() == others+1 })
	acquired, _ := s.Alive()
	soon(t, "the lease is renewed", func() bool { at, _ := s.Alive(); return at.After(acquired) })
	all := gate.got.Load()

	gate.shut()
	gate.open()
	acquire(t, w.open(t), node("node2", "192.0.2.11"))
	soon(t, "a peer that comes is told", func() bool { return newest().Leases.Len() == others+2 })
	before, _ := s.Alive()
	soon(t, "the lease is renewed", func() bool { at, _ := s.Alive(); return at.After(before) })
	if got := gate.got.Load() - all; got > all/4 || s.Restarts() != 0 {
		t.Errorf("read %d bytes again of %d, and all leases %d times by the watch, want little and none", got, all, s.Restarts())
	}
}

// The claim changes, as when the node's address does: the lease is written anew
// and the subnet stays.
func TestRenew(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	s := w.open(t)
	var addr atomic.Value
	addr.Store("192.0.2.10")
	l := acquire(t, s, func(n subnet.Network) (etcd.Claim, error) { return node("node1", addr.Load().(string))(n) })
	newest, failed := keep(t, s)
	soon(t, "own lease is told", func() bool { return newest().Leases.Len() == 1 })
	_, id, _ := w.get(t, "/subnets/"+l.Key())
	addr.Store("192.0.2.99")
	s.Renew()
	soon(t, "the lease has the new address", func() bool {
		value, now, _ := w.get(t, "/subnets/"+l.Key())
		return strings.Contains(value, "192.0.2.99") && now == id
	})
	soon(t, "others hear of it", func() bool {
		r, _ := newest().Leases.Get(l.Key())
		return r.Addrs[subnet.IPv4] == netip.MustParseAddr("192.0.2.99")
	})
	select {
	case err := <-failed:
		t.Errorf("ended with %v", err)
	default:
	}
}

// A network that is no use to a node that runs changes nothing about its lease: it
// is written anew when the node's address changes, and again when it is lost.
func TestLeaseOutlivesItsNetwork(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, network string
		lost          bool // the key as well
	}{
		{"without our subnet", `{"Network": "10.99.0.0/16"}`, false},
		{"without our subnet, and the lease is lost", `{"Network": "10.99.0.0/16"}`, true},
		{"of another family", `{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd42::/48"}`, false},
		{"of another family, and the lease is lost", `{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd42::/48"}`, true},
		{"not valid", `nonsense`, false},
		{"none", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, small)
			s := w.open(t)
			var addr atomic.Value
			addr.Store("192.0.2.10")
			l := acquire(t, s, func(n subnet.Network) (etcd.Claim, error) { return node("node1", addr.Load().(string))(n) })
			newest, failed := keep(t, s)
			soon(t, "own lease is told", func() bool { return newest().Leases.Len() == 1 })
			key := "/subnets/" + l.Key()
			if test.network == "" {
				w.delete(t, "/config")
			} else {
				w.put(t, "/config", test.network)
			}
			addr.Store("192.0.2.99")
			if test.lost {
				w.delete(t, key)
			} else {
				s.Renew()
			}
			soon(t, "the lease is there with the new address", func() bool {
				select {
				case err := <-failed:
					t.Fatalf("ended with %v", err)
				default:
				}
				value, id, _ := w.get(t, key)
				return strings.Contains(value, "192.0.2.99") && id != 0
			})
		})
	}
}

// Two nodes have one name. That of the first lost its lease while it could not
// reach etcd, so the second found the name free. The first ends when it comes back,
// and leaves the second alone.
func TestTwoOfOneName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	first, second := w.open(t), w.open(t)
	claim := func(addr string) func(subnet.Network) (etcd.Claim, error) {
		return func(n subnet.Network) (etcd.Claim, error) {
			c, err := node("node1", addr)(n)
			c.Answers = func(a netip.Addr) bool { return a.String() != addr } // both run
			return c, err
		}
	}
	lost := acquire(t, first, claim("192.0.2.10"))
	w.delete(t, "/subnets/"+lost.Key())
	w.put(t, "/subnets/"+lost.Key(), "unusable") // so that the other takes another subnet
	there := acquire(t, second, claim("192.0.2.11"))
	if there.Subnets == lost.Subnets {
		t.Fatal("both have one subnet")
	}
	newest, _ := keep(t, second)
	soon(t, "the second's lease is told", func() bool { return newest().Leases.Len() == 1 })
	_, _, rev := w.get(t, "/subnets/"+there.Key())
	w.delete(t, "/subnets/"+lost.Key())
	_, failed := keep(t, first)
	soon(t, "the first ends", func() bool { return len(failed) > 0 })
	if err := <-failed; !errors.Is(err, etcd.ErrTaken) || !strings.Contains(err.Error(), "192.0.2.11") || !strings.Contains(err.Error(), "node1") {
		t.Errorf("the first ended with %v, want %v with the name and the other's address", err, etcd.ErrTaken)
	}
	if _, _, now := w.get(t, "/subnets/"+there.Key()); now != rev {
		t.Errorf("the second's lease was changed at revision %d", now)
	}
}

func TestReserveAndRelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	s := w.open(t)
	l := acquire(t, s, node("node1", "192.0.2.10"))
	newest, _ := keep(t, s)
	soon(t, "own lease is told", func() bool { return newest().Leases.Len() == 1 })
	operator := w.open(t)

	if err := operator.Reserve(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	value, id, _ := w.get(t, "/subnets/"+l.Key())
	if value != l.Value() || id != 0 {
		t.Errorf("reserved lease = %s with etcd lease %x, want the same without one", value, id)
	}
	r, _ := newest().Leases.Get(l.Key())
	soon(t, "the reservation is told", func() bool { r, _ = newest().Leases.Get(l.Key()); return r.ID == 0 })
	if left, granted, err := operator.Left(t.Context(), r); left != 0 || granted != 0 || err != nil {
		t.Errorf("Left of a reservation = %d, %d, %v, want none", left, granted, err)
	}

	inside := subnet.Lease{Type: subnet.VXLAN, Node: "node2"}
	inside.Addrs[subnet.IPv4] = netip.MustParseAddr("192.0.2.11")
	inside.Subnets[subnet.IPv4] = netip.PrefixFrom(l.Subnets[subnet.IPv4].Addr(), 26)
	if err := operator.Reserve(t.Context(), inside); err == nil || !strings.Contains(err.Error(), "overlaps") {
		t.Errorf("Reserve inside of another lease = %v, want an error", err)
	}
	outside := inside
	outside.Subnets[subnet.IPv4] = netip.MustParsePrefix("10.99.1.0/24")
	if err := operator.Reserve(t.Context(), outside); err == nil || !strings.Contains(err.Error(), "outside") {
		t.Errorf("Reserve outside of the network = %v, want an error", err)
	}
	fresh := inside
	fresh.Subnets[subnet.IPv4] = netip.MustParsePrefix("10.244.77.0/24")
	for _, test := range []struct{ name, node, addr, want string }{
		{"a node that has a lease", l.Node, "192.0.2.77", "node1 has the lease " + l.String()},
		{"the address of another node", "node2", "192.0.2.10", "192.0.2.10 is that of the lease " + l.String()},
		{"an address of the pods", "node2", "10.244.3.4", "10.244.3.4 is one of the pods' network"},
	} {
		wrong := fresh
		wrong.Node, wrong.Addrs[subnet.IPv4] = test.node, netip.MustParseAddr(test.addr)
		if err := operator.Reserve(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Reserve for %s = %v, want an error with %q", test.name, err, test.want)
		}
	}
	if err := operator.Reserve(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	if got := acquire(t, w.open(t), node("node2", "192.0.2.11")); got.Subnets != fresh.Subnets {
		t.Errorf("node2 got %v, want what is reserved for it", got)
	}

	stale := r
	stale.Modified--
	if err := operator.Release(t.Context(), stale); !errors.Is(err, etcd.ErrChanged) {
		t.Errorf("Release of a lease that has changed = %v, want %v", err, etcd.ErrChanged)
	}
	snapshot, err := operator.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, _ = snapshot.Leases.Get(fresh.Key())
	if err := operator.Release(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if value, _, _ := w.get(t, "/subnets/"+fresh.Key()); value != "" {
		t.Errorf("after Release there is %s", value)
	}
}

// Etcd's disk is full: it answers, and every write fails. The node goes on, says
// so once, and puts its lease back when there is room.
func TestEtcdWithoutSpace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	core, logs := observer.New(zap.InfoLevel)
	s := w.openLog(t, zap.New(core))
	l := acquire(t, s, node("node1", "192.0.2.10"))
	newest, failed := keep(t, s)
	soon(t, "own lease is told", func() bool { return newest().Leases.Len() == 1 })

	members, err := w.client.MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	alarm := &clientv3.AlarmMember{MemberID: members.Members[0].ID, Alarm: etcdserverpb.AlarmType_NOSPACE}
	if err := etcdtest.Alarm(t.Context(), w.url, alarm.MemberID); err != nil {
		t.Fatal(err)
	}
	w.delete(t, "/subnets/"+l.Key()) // deleting still works
	soon(t, "it is told that etcd has a fault", func() bool {
		return logs.FilterMessageSnippet("etcd gives no answer, or none that helps").Len() > 0
	})
	if _, err := w.client.AlarmDisarm(t.Context(), alarm); err != nil {
		t.Fatal(err)
	}
	soon(t, "the lease is back", func() bool { value, _, _ := w.get(t, "/subnets/"+l.Key()); return value == l.Value() })
	if got := logs.FilterMessageSnippet("etcd gives no answer").Len(); got != 1 {
		t.Errorf("it was told %d times, want once", got)
	}
	select {
	case err := <-failed:
		t.Errorf("ended with %v", err)
	default:
	}
}
