package flags

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"tulle/subnet/etcd"
)

// given are some flags as a program registers them, after a command line.
type given struct {
	set    *pflag.FlagSet
	etcd   etcd.Config
	ttl    *int
	masq   *bool
	ifaces *[]string
}

func parse(t *testing.T, args ...string) *given {
	t.Helper()
	g := &given{set: pflag.NewFlagSet("test", pflag.ContinueOnError)}
	Etcd(g.set, &g.etcd)
	g.ttl = g.set.Int("lease-ttl", 24, "")
	g.masq = g.set.Bool("ip-masq", true, "")
	g.ifaces = g.set.StringArray("iface", nil, "")
	if err := g.set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestFromEnvSetsWhatTheCommandLineLeavesOpen(t *testing.T) {
	t.Setenv("TULLED_ETCD_ENDPOINTS", "http://192.0.2.1:2379,http://192.0.2.2:2379")
	t.Setenv("TULLED_ETCD_PREFIX", "/from/the/environment")
	t.Setenv("TULLED_IP_MASQ", "false")
	t.Setenv("TULLED_IFACE", "eth1")
	g := parse(t, "--etcd-prefix=/from/the/command/line")
	if err := FromEnv(g.set); err != nil {
		t.Fatal(err)
	}
	if want := []string{"http://192.0.2.1:2379", "http://192.0.2.2:2379"}; !slices.Equal(g.etcd.Endpoints, want) {
		t.Errorf("endpoints = %s, want %s", g.etcd.Endpoints, want)
	}
	if want := "/from/the/command/line"; g.etcd.Prefix != want {
		t.Errorf("prefix = %s, want %s", g.etcd.Prefix, want)
	}
	if *g.masq || !slices.Equal(*g.ifaces, []string{"eth1"}) {
		t.Errorf("masquerade %t, devices %s; want false, [eth1]", *g.masq, *g.ifaces)
	}
	if *g.ttl != 24 {
		t.Errorf("a flag that nobody gives = %d, want its default 24", *g.ttl)
	}
}

func TestFromEnvTellsAllFaults(t *testing.T) {
	t.Setenv("TULLED_LEASE_TTL", "long")
	t.Setenv("TULLED_IP_MASQ", "perhaps")
	err := FromEnv(parse(t).set)
	if err == nil {
		t.Fatal("FromEnv takes values that make no sense")
	}
	for _, want := range []string{"environment variable TULLED_LEASE_TTL: ", "environment variable TULLED_IP_MASQ: "} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("FromEnv = %q, want it to hold %q", err, want)
		}
	}
}

func TestFromEnvWithAnEmptyVariableSetsTheEmptyText(t *testing.T) {
	t.Setenv("TULLED_ETCD_PREFIX", "")
	g := parse(t)
	if err := FromEnv(g.set); err != nil || g.etcd.Prefix != "" {
		t.Errorf("prefix = %q, %v; want none, as the operator said", g.etcd.Prefix, err)
	}
}

func TestUnknownNamesWhatLooksLikeOurs(t *testing.T) {
	t.Setenv("TULLED_ETCD_ENDPOINT", "http://192.0.2.1:2379") // without its S
	t.Setenv("TULLED_ETCD_PREFIX", "/p")
	t.Setenv("TULLE_REQUIRE_ROOT", "1")
	if got, want := Unknown(parse(t).set), []string{"TULLED_ETCD_ENDPOINT"}; !slices.Equal(got, want) {
		t.Errorf("Unknown = %s, want %s", got, want)
	}
}

func TestDefaultsOfEtcd(t *testing.T) {
	t.Parallel()
	c := parse(t).etcd
	if !slices.Equal(c.Endpoints, []string{etcd.DefaultEndpoint}) || c.Prefix != etcd.DefaultPrefix {
		t.Errorf("defaults = %s and %s, want %s and %s", c.Endpoints, c.Prefix, etcd.DefaultEndpoint, etcd.DefaultPrefix)
	}
	if err := c.Check(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
}
