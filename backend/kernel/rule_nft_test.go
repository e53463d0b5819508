package kernel

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"tulle/backend"
	"tulle/backend/firewall"
	"tulle/subnet"
)

// openWith opens the namespace as a daemon does that works with a tool.
func openWith(t *testing.T, f subnet.Family, tool backend.Tool) *Kernel {
	t.Helper()
	inside(t)
	k, err := Open(Config{Owner: "tulle test", Jumps: jumps(f), Table: firewall.Table(""), Firewall: tool})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	return k
}

func nftRulesOf(f subnet.Family) backend.State {
	return firewall.Desired(input(f, backend.NFTables))
}

// saveRules is all rules of a kind of iptables, without counters.
func saveRules(t *testing.T, program string) string { return run(t, program+"-save") }

// Without any program, rules are written and read back, and whatever is done to
// them is heard and put right.
func TestNFTRules(t *testing.T) {
	t.Parallel()
	for _, f := range subnet.Families {
		t.Run(f.String(), func(t *testing.T) { testNFTRules(t, f) })
	}
}

func testNFTRules(t *testing.T, f subnet.Family) {
	h := fresh(t)
	want := nftRulesOf(f)
	k := openWith(t, f, backend.NFTables)
	apply(t, k, want)
	same(t, k, want)
	proto := [2]string{"ip", "ip6"}[f]
	if got := run(t, "nft list tables"); got != "table "+proto+" tulle\n" {
		t.Errorf("where there is no iptables, the tables are\n%s", got)
	}
	l := watching(t, h, want, k.WatchRules)
	own := " " + proto + " tulle "
	filter := " " + proto + " filter "
	tables := programNames[f] + "-nft"
	for _, test := range []struct{ name, command string }{
		{"a rule deleted", "nft flush chain" + own + "postrouting"},
		{"a rule in front", "nft insert rule" + own + "postrouting accept"},
		{"a rule behind", "nft add rule" + own + "postrouting drop"},
		{"another policy", "nft add chain" + own + "postrouting { policy drop; }"},
		{"a chain too many", "nft add chain" + own + "mine"},
		{"a chain deleted", "nft delete chain" + own + "output"},
		{"a hook with another priority", "nft delete chain" + own + "output; add chain" + own + "output { type filter hook output priority 77; }"},
		{"table asleep", "nft add table " + proto + " tulle { flags dormant; }"},
		{"table deleted", "nft delete table " + proto + " tulle"},
		{"everything deleted", "nft flush ruleset"},
		{"iptables comes to the host", tables + " -P FORWARD DROP"},
		{"the jump deleted", tables + " -D FORWARD -j TULLE-FORWARD"},
		{"the jump there twice", tables + " -A FORWARD -j TULLE-FORWARD"},
		{"iptables flushed", tables + " -F"},
		{"a rule that rejects everything before the jump", tables + " -I FORWARD -j REJECT"},
		{"a rule that drops everything before the jump", tables + " -I FORWARD -j DROP"},
		{"a rule added", tables + " -I TULLE-FORWARD -j DROP"},
		{"a rule of iptables deleted", tables + " -D TULLE-FORWARD 1"},
		{"a rule of iptables altered", tables + " -R TULLE-FORWARD 2 -d " + owns[f].String() + " -j ACCEPT"},
		{"the chain of iptables deleted", "nft flush chain" + filter + "FORWARD; flush chain" + filter + "TULLE-FORWARD; delete chain" + filter + "TULLE-FORWARD"},
		{"firewalld comes to the host", "nft add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }; add rule inet firewalld filter_FORWARD reject"},
		{"firewalld reloads", "nft add table inet firewalld_policy_drop; add chain inet firewalld_policy_drop filter_input { type filter hook input priority 9; policy drop; }; add chain inet firewalld_policy_drop filter_forward { type filter hook forward priority 9; policy drop; }; add chain inet firewalld_policy_drop filter_output { type filter hook output priority 9; policy drop; }"},
		{"firewalld flushed", "nft flush table inet firewalld"},
		{"firewalld's jump behind a reject", "nft insert rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h.enter(t)
			settle()
			before := l.wakes.Load()
			if commands, ok := strings.CutPrefix(test.command, "nft "); ok {
				nft(t, commands)
			} else {
				run(t, test.command)
			}
			if !l.woken(before) {
				t.Error("nobody heard of it")
			}
			if len(apply(t, k, want)) == 0 {
				t.Error("the pass saw no difference")
			}
			same(t, k, want)
			settle()
			before = l.wakes.Load()
			apply(t, k, want)
			settle()
			if got := l.wakes.Load(); got != before {
				t.Errorf("own changes woke %d times", got-before)
			}
		})
	}
	t.Run("iptables reads what was written", func(t *testing.T) {
		h.enter(t)
		got := saveRules(t, tables)
		cluster := clusters[f].String()
		for _, line := range []string{"-A FORWARD -j TULLE-FORWARD\n", "-A TULLE-FORWARD -s " + cluster + " -j ACCEPT\n", "-A TULLE-FORWARD -d " + cluster + " -j ACCEPT\n"} {
			if strings.Count(got, line) != 1 {
				t.Errorf("iptables-save does not tell of %s:\n%s", line, got)
			}
		}
	})
	t.Run("nft reads what was written", func(t *testing.T) {
		h.enter(t)
		nft(t, "flush ruleset\n"+run(t, "nft -s list ruleset"))
		if changes := apply(t, k, want); len(changes) > 0 {
			t.Errorf("after nft list ruleset and nft -f, a pass changes %v", changes)
		}
	})
	t.Run("what is no longer wanted goes", func(t *testing.T) {
		h.enter(t)
		apply(t, k, backend.State{})
		if got := run(t, "nft list ruleset"); strings.Contains(strings.ToLower(got), "tulle") {
			t.Errorf("left is\n%s", got)
		}
	})
}

// From each way to each other, nothing of the former one is left, and at no moment
// there is neither of both.
func TestFirewallSwitched(t *testing.T) {
	for _, kind := range []string{"nft", "legacy"} {
		t.Run(kind, func(t *testing.T) {
			fresh(t)
			useIPTables(t, kind)
			const f = subnet.IPv4
			before := openWith(t, f, backend.IPTables)
			apply(t, before, rules(f))
			same(t, before, rules(f))

			k := openWith(t, f, backend.NFTables)
			changes := apply(t, k, nftRulesOf(f))
			lastNew, firstGone := -1, len(changes)
			for i, c := range changes {
				if c.Want != nil {
					lastNew = i
				} else {
					firstGone = min(firstGone, i)
				}
			}
			if lastNew > firstGone || lastNew < 0 || firstGone == len(changes) {
				t.Errorf("changes are %v; want all that is new before all that goes", changes)
			}
			same(t, k, nftRulesOf(f))
			saved := saveRules(t, "iptables-"+kind)
			for _, gone := range []string{"TULLE-POSTROUTING", "TULLE-PREROUTING", "TULLE-OUTPUT"} {
				if strings.Contains(saved, gone) {
					t.Errorf("left is %s:\n%s", gone, saved)
				}
			}
			if !strings.Contains(saved, "-A FORWARD -j TULLE-FORWARD") {
				t.Errorf("iptables no longer hears what is to be forwarded:\n%s", saved)
			}

			k = openWith(t, f, backend.IPTables)
			apply(t, k, rules(f))
			same(t, k, rules(f))
			if left := run(t, "nft list tables"); strings.Contains(left, "tulle") {
				t.Errorf("left is %s", left)
			}
		})
	}
}

// A host with nothing of iptables can be worked with, and rules that an earlier
// tulle left in its tables go.
func TestNFTRulesWithoutPrograms(t *testing.T) {
	fresh(t)
	const f = subnet.IPv4
	useIPTables(t, "nft")
	apply(t, openWith(t, f, backend.IPTables), rules(f))
	path := os.Getenv("PATH")
	t.Setenv("PATH", t.TempDir())
	k := openWith(t, f, backend.NFTables)
	apply(t, k, nftRulesOf(f))
	same(t, k, nftRulesOf(f))
	have, err := Firewalls()
	if err != nil {
		t.Fatal(err)
	}
	if tool, why := firewall.Choose(have); tool != backend.NFTables {
		t.Errorf("Choose = %s because %s, want nftables", tool, why)
	}
	os.Setenv("PATH", path)
	if saved := saveRules(t, "iptables-nft"); strings.Contains(saved, "TULLE-POSTROUTING") || !strings.Contains(saved, "-A FORWARD -j TULLE-FORWARD") {
		t.Errorf("iptables-save tells\n%s", saved)
	}
}

// The right to read legacy tables is asked for where there are some, and not elsewhere.
func TestFirewallsWithoutRawSockets(t *testing.T) {
	for _, test := range []struct {
		name, command string
		want          string // in the error
	}{
		{"no legacy tables", "true", ""},
		{"legacy tables", "iptables-legacy -A FORWARD -j ACCEPT", "CAP_NET_RAW"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fresh(t)
			run(t, test.command)
			// Of this thread alone, which ends with the test.
			header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var data [2]unix.CapUserData
			if err := unix.Capget(&header, &data[0]); err != nil {
				t.Fatal(err)
			}
			data[0].Effective &^= 1 << unix.CAP_NET_RAW
			if err := unix.Capset(&header, &data[0]); err != nil {
				t.Fatal(err)
			}
			_, err := Firewalls()
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("Firewalls = %v, want an error with %q", err, test.want)
			}
		})
	}
}

// What a host shows is what is chosen by.
func TestFirewalls(t *testing.T) {
	for _, test := range []struct {
		name, kind, commands string
		tool                 backend.Tool
	}{
		{"nothing", "nft", "true", backend.NFTables},
		{"nothing but policies", "nft", "iptables -P FORWARD DROP", backend.NFTables},
		{"kube-proxy by iptables", "nft", "iptables -t nat -N KUBE-SERVICES", backend.IPTables},
		{"kube-proxy by nftables", "nft", "nft add table ip kube-proxy;nft add chain ip kube-proxy services", backend.NFTables},
		{"legacy iptables", "legacy", "true", backend.IPTables},
		{"legacy iptables with rules", "legacy", "iptables -A FORWARD -j ACCEPT", backend.IPTables},
		{"kube-proxy by nftables, and legacy iptables", "legacy", "nft add table ip kube-proxy;nft add chain ip kube-proxy services", backend.NFTables},
		{"rules of the other iptables", "nft", "iptables-legacy -A FORWARD -j ACCEPT", backend.NFTables},
	} {
		t.Run(test.name, func(t *testing.T) {
			fresh(t)
			useIPTables(t, test.kind)
			for command := range strings.SplitSeq(test.commands, ";") {
				run(t, command)
			}
			have, err := Firewalls()
			if err != nil {
				t.Fatal(err)
			}
			if got, why := firewall.Choose(have); got != test.tool {
				t.Errorf("Choose(%+v) = %s because %s, want %s", have, got, why, test.tool)
			}
			if want := strings.Contains(test.commands, "-A"); have.LegacyRules != want {
				t.Errorf("legacy rules: %t, want %t", have.LegacyRules, want)
			}
		})
	}
}

// Legacy tables in which somebody drops what is forwarded hear of us, too.
func TestNFTRulesBesideLegacy(t *testing.T) {
	fresh(t)
	useIPTables(t, "nft")
	const f = subnet.IPv4
	k := openWith(t, f, backend.NFTables)
	apply(t, k, nftRulesOf(f))
	names, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if err != nil || len(names) > 0 {
		t.Fatalf("legacy tables after a pass are %q, %v, want none", names, err)
	}
	run(t, "iptables-legacy -P FORWARD DROP")
	if len(apply(t, k, nftRulesOf(f))) == 0 {
		t.Error("the pass saw no difference")
	}
	same(t, k, nftRulesOf(f))
	if saved := saveRules(t, "iptables-legacy"); !strings.Contains(saved, "-A FORWARD -j TULLE-FORWARD") || strings.Contains(saved, "POSTROUTING") {
		t.Errorf("iptables-legacy-save tells\n%s", saved)
	}
}

// firewalld may keep its table to itself. That is told and stops nothing.
func TestFirewalldOwnsItsTable(t *testing.T) {
	fresh(t)
	socket, err := openNFT()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.close() // and with it the table ends
	tr := socket.begin(inet)
	tr.add(unix.NFT_MSG_NEWTABLE, body(nil).text(unix.NFTA_TABLE_NAME, "firewalld").number(unix.NFTA_TABLE_FLAGS, flagOwner))
	tr.add(unix.NFT_MSG_NEWCHAIN, append(chainRef("firewalld", "filter_FORWARD"), hook("filter", unix.NF_INET_FORWARD, 10)...))
	if err := socket.commit(tr); err != nil {
		t.Fatal(err)
	}
	have, err := Firewalls()
	if err != nil || !have.FirewalldUnheard {
		t.Errorf("Firewalls = %+v, %v, want it to tell of firewalld", have, err)
	}
	k := openWith(t, subnet.IPv4, backend.NFTables)
	apply(t, k, nftRulesOf(subnet.IPv4))
	same(t, k, nftRulesOf(subnet.IPv4))
}

// New wishes are applied without a look at the tables: those for tables that are not
// there lead to nothing, whichever way the rules are written.
func TestOptionalRowsWithoutALook(t *testing.T) {
	for _, kind := range []string{"nft", "legacy"} {
		for _, tool := range []backend.Tool{backend.IPTables, backend.NFTables} {
			t.Run(kind+" by "+tool.String(), func(t *testing.T) {
				fresh(t)
				useIPTables(t, kind)
				const f = subnet.IPv4
				k := openWith(t, f, tool)
				before := firewall.Desired(input(f, tool))
				apply(t, k, before)
				in := input(f, tool)
				in.Network.Pools[f].Prefix = netip.MustParsePrefix("10.244.0.0/15")
				after := firewall.Desired(in)
				for _, changes := range [][]backend.Change{backend.Diff(after, before), backend.Diff(backend.State{}, after), backend.Diff(before, backend.State{})} {
					if _, err := k.Apply(t.Context(), changes); err != nil {
						t.Error(err)
					}
				}
				same(t, k, before)
			})
		}
	}
}
