// Command scale measures one daemon with many peers: a real etcd, a real tulled
// and real kernel tables on a host of a lab, and leases that are written straight
// into etcd. It prints a table; `make bench` runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	bin := flag.String("bin", "bin", "folder with tulled, tulle and tullectl")
	peers := flag.String("peers", "10,1000,5000,10000", "how many peers, one after another")
	starts := flag.String("starts", "2,50,100", "how many nodes to start at once, one after another")
	idle := flag.Duration("idle", 20*time.Second, "how long to watch an idle daemon")
	churn := flag.Duration("churn", 0, "how long to let peers come and go, after the rest")
	flag.Parse()
	err := run(ctx, *bin, numbers(*peers), numbers(*starts), *idle)
	if err == nil && *churn > 0 {
		err = measureChurn(ctx, *bin, *churn)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale: "+err.Error())
		os.Exit(1)
	}
}

func numbers(text string) []int {
	var list []int
	for part := range strings.SplitSeq(text, ",") {
		var n int
		if _, err := fmt.Sscan(part, &n); err == nil {
			list = append(list, n)
		}
	}
	return list
}

func run(ctx context.Context, bin string, peers, starts []int, idle time.Duration) error {
	for _, n := range peers {
		if err := measurePeers(ctx, bin, n, idle); err != nil {
			return fmt.Errorf("%d peers: %w", n, err)
		}
	}
	for _, n := range starts {
		if err := measureStarts(ctx, bin, n); err != nil {
			return fmt.Errorf("%d nodes at once: %w", n, err)
		}
	}
	return nil
}

func row(what, format string, args ...any) {
	fmt.Printf("%-58s %s\n", what, fmt.Sprintf(format, args...))
}

// quantile is the q-th of sorted durations.
func quantile(d []time.Duration, q float64) time.Duration {
	s := slices.Sorted(slices.Values(d))
	return s[min(len(s)-1, int(q*float64(len(s))))]
}
