package kernel

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tulle/backend"
	"tulle/subnet"
)

// watchLegacy is the legacy table filter of a family with our rules in it, and a
// function that tells the sum of them.
func watchLegacy(t testing.TB, f subnet.Family) func() uint64 {
	t.Helper()
	var table *watchedTable
	tables, err := openLegacy(jumps(f))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tables.close)
	if table = tables.find(backend.Jump{Family: f, Table: "filter"}); table == nil {
		t.Fatal("no jump is in the table filter")
	}
	return func() uint64 {
		t.Helper()
		info, err := table.look()
		if err != nil {
			t.Fatal(err)
		}
		sum, err := table.readSum(info)
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
}

// What others do in a table, and counters, leave the sum as it is; whatever
// concerns us changes it, and undone it is what it was.
func TestLegacySum(t *testing.T) {
	for _, f := range subnet.Families {
		t.Run(f.String(), func(t *testing.T) {
			fresh(t)
			useIPTables(t, "legacy")
			program, stranger := "iptables", "203.0.113.0/24"
			if f == subnet.IPv6 {
				program, stranger = "ip6tables", "2001:db8:7::/64"
			}
			do := func(commands string) {
				t.Helper()
				for command := range strings.SplitSeq(commands, ";") {
					run(t, program+" "+command)
				}
			}
			apply(t, open(t, jumps(f)...), rules(f))
			do("-N OTHER;-N THIRD")
			sum := watchLegacy(t, f)
			for _, test := range []struct{ do, undo string }{
				{do: "-N A-BEFORE;-A A-BEFORE -s " + stranger + " -j OTHER"},
				{do: "-A OTHER -s " + stranger + " -m limit --limit 5/sec -j ACCEPT"},
				{do: "-A OUTPUT -s " + stranger + " -j DROP"},
				{do: "-R FORWARD 1 -j TULLE-FORWARD -c 7 7"},
				{do: "-D OUTPUT -s " + stranger + " -j DROP"},
				{"-I FORWARD -s " + stranger + " -j OTHER", "-D FORWARD 1"},
				{"-I FORWARD -s " + stranger, "-D FORWARD 1"},
				{"-R FORWARD 1 -j OTHER", "-R FORWARD 1 -j TULLE-FORWARD"},
				{"-R FORWARD 1 -g TULLE-FORWARD", "-R FORWARD 1 -j TULLE-FORWARD"},
				{"-P FORWARD DROP", "-P FORWARD ACCEPT"},
				{"-A TULLE-FORWARD -j OTHER;-R TULLE-FORWARD 3 -j THIRD", "-D TULLE-FORWARD 3"},
				{"-I TULLE-FORWARD 2 -s " + stranger + " -m limit --limit 5/sec -j ACCEPT", "-D TULLE-FORWARD 2"},
			} {
				before := sum()
				do(test.do)
				if after := sum(); (after != before) != (test.undo != "") {
					t.Errorf("%s: the sum changed: %t, want %t", test.do, after != before, test.undo != "")
				}
				if test.undo == "" {
					continue
				}
				do(test.undo)
				if after := sum(); after != before {
					t.Errorf("%s, and %s: the sum is not what it was", test.do, test.undo)
				}
			}
		})
	}
}

// However large a table is, reading it takes a bounded share of the processor,
// and a change by the iptables programs, which does not change any size here, is
// seen nevertheless.
func TestLegacyReadsAreBounded(t *testing.T) {
	fresh(t)
	useIPTables(t, "legacy")
	apply(t, open(t, jumps(subnet.IPv4)...), rules(subnet.IPv4))
	fillLegacy(t, 2_000)
	tables, err := openLegacy(jumps(subnet.IPv4))
	if err != nil {
		t.Fatal(err)
	}
	defer tables.close()
	tables.changed(time.Now())
	for _, table := range tables.tables {
		const cost, others = time.Millisecond, 3
		for _, step := range []struct {
			after         time.Duration
			touched, read bool
		}{
			{others*idleShare*cost - 1, false, false},
			{others * idleShare * cost, false, true},
			{others*busyShare*cost - 1, true, false},
			{others * busyShare * cost, true, true},
		} {
			begin := time.Now()
			table.read, table.cost, table.touched = begin, cost, step.touched
			table.changed(begin.Add(step.after), others)
			if read := table.read != begin; read != step.read {
				t.Errorf("%s: after %s, and touched %t, it was read: %t, want %t", table.name, step.after, step.touched, read, step.read)
			}
		}
	}
	now := time.Now().Add(time.Hour)
	tables.changed(now)
	run(t, "iptables -R TULLE-FORWARD 1 -s 203.0.113.0/24 -j DROP")
	run(t, "iptables -R TULLE-FORWARD 1 -s 203.0.113.0/24 -j ACCEPT")
	tables.changed(now.Add(time.Hour))
	soon := now.Add(time.Hour + time.Second)
	if tables.changed(soon) {
		t.Error("a change was seen where there was none")
	}
	run(t, "iptables -R TULLE-FORWARD 1 -s 203.0.113.0/24 -j DROP")
	if !tables.changed(soon.Add(time.Second)) {
		t.Error("a rule that was replaced by another of the same size is not seen")
	}
}

// fillLegacy adds chains and rules such as a large cluster's Services have.
func fillLegacy(t testing.TB, services int) {
	t.Helper()
	var b strings.Builder
	for _, table := range []string{"filter", "nat"} {
		fmt.Fprintf(&b, "*%s\n", table)
		for i := range services {
			fmt.Fprintf(&b, ":KUBE-SVC-%06d - [0:0]\n", i)
		}
		for i := range services {
			fmt.Fprintf(&b, "-A KUBE-SVC-%06d -d 10.%d.%d.%d/32 -p tcp -m comment --comment \"ns/service\" -m tcp --dport 80 -j ACCEPT\n", i, i>>16, i>>8&255, i&255)
		}
		b.WriteString("COMMIT\n")
	}
	cmd := exec.Command("iptables-legacy-restore", "--noflush")
	cmd.Stdin = strings.NewReader(b.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("iptables-legacy-restore: %v\n%s", err, out)
	}
}

// BenchmarkLegacyLook is what the watcher pays twice a second, and
// BenchmarkLegacyRead what it pays as often as is allowed.
func BenchmarkLegacyLook(b *testing.B) { benchmarkLegacy(b, false) }
func BenchmarkLegacyRead(b *testing.B) { benchmarkLegacy(b, true) }

func benchmarkLegacy(b *testing.B, read bool) {
	for _, services := range []int{-1, 0, 1_000, 10_000, 50_000} {
		b.Run(fmt.Sprintf("%d rules", max(0, 2*services)), func(b *testing.B) {
			fresh(b)
			if services >= 0 {
				for _, table := range []string{"filter", "nat"} {
					if out, err := exec.Command("iptables-legacy", "-t", table, "-L").CombinedOutput(); err != nil {
						b.Fatalf("%v\n%s", err, out)
					}
				}
				fillLegacy(b, services)
			}
			tables, err := openLegacy(jumps(subnet.IPv4))
			if err != nil {
				b.Fatal(err)
			}
			defer tables.close()
			now := time.Now()
			tables.changed(now)
			b.ResetTimer()
			for range b.N {
				if read {
					now = now.Add(1000 * time.Hour)
				}
				tables.changed(now)
			}
		})
	}
}
