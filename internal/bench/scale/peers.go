package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tulle/internal/lab"
)

// settle is how long the start's echo in the kernel may last.
const settle = 2 * time.Second

// few is how often a change of one peer is measured.
const few = 300

// burst is how many peers come at once.
const burst = 1000

// measurePeers measures one daemon with n peers.
func measurePeers(ctx context.Context, bin string, n int, idle time.Duration) error {
	l, node, store, err := crowd(ctx, bin, n)
	if err != nil {
		return err
	}
	defer l.Down(context.WithoutCancel(ctx))
	defer store.close()
	rows, err := watchRoutes(node)
	if err != nil {
		return err
	}
	defer rows.close()

	fmt.Printf("\n%d peers\n", n)
	before, err := store.requests(ctx)
	if err != nil {
		return err
	}
	logBefore := size(node.Log("tulled"))
	start := time.Now()
	if err := node.StartDaemon(ctx); err != nil {
		return err
	}
	if err := rows.wait(ctx, n); err != nil {
		return err
	}
	took := rows.last().Sub(start)
	if err := node.WaitReady(ctx); err != nil {
		return err
	}
	row("cold start: process start to the last kernel entry", "%d ms", took.Milliseconds())
	u, err := usage(ctx, node)
	if err != nil {
		return err
	}
	row("CPU for it, the iptables programs it runs included", "%d ms", u.cpu.Milliseconds())
	row("peak resident memory", "%.1f MiB", float64(u.peak)/1024)
	after, err := store.requests(ctx)
	if err != nil {
		return err
	}
	row("etcd requests for it", "%d", after-before)
	row("log for it", "%d bytes", size(node.Log("tulled"))-logBefore)

	if err := sleep(ctx, settle); err != nil {
		return err
	}
	var one []time.Duration
	for i := range few {
		rows.reset()
		if err := store.put(ctx, n+i, n+i+1); err != nil {
			return err
		}
		written := time.Now()
		if err := rows.wait(ctx, 1); err != nil {
			return err
		}
		one = append(one, max(0, rows.last().Sub(written)))
		time.Sleep(5 * time.Millisecond) // one by one
	}
	row("one peer added: etcd write to last kernel entry, p50 / p99", "%.2f / %.2f ms", millis(quantile(one, 0.5)), millis(quantile(one, 0.99)))

	fullPasses, err := passes(ctx, node)
	if err != nil {
		return err
	}
	row("passes so far", "%s", fullPasses)

	rows.reset()
	start = time.Now()
	if err := store.put(ctx, n+few, n+few+burst); err != nil {
		return err
	}
	written := time.Since(start)
	if err := rows.wait(ctx, burst); err != nil {
		return err
	}
	row(fmt.Sprintf("%d peers added: first write to last kernel entry", burst), "%d ms, of them %d ms for the writes", rows.last().Sub(start).Milliseconds(), written.Milliseconds())

	u0, err := usage(ctx, node)
	if err != nil {
		return err
	}
	if err := sleep(ctx, idle); err != nil {
		return err
	}
	u1, err := usage(ctx, node)
	if err != nil {
		return err
	}
	row(fmt.Sprintf("idle for %s: CPU", idle), "%.2f ms/s", millis(u1.cpu-u0.cpu)/idle.Seconds())
	row("resident memory at the end / peak", "%.1f / %.1f MiB", float64(u1.resident)/1024, float64(u1.peak)/1024)

	start = time.Now()
	if err := node.RestartDaemon(ctx, syscall.SIGTERM); err != nil {
		return err
	}
	row("restart: stop to ready again, nothing written", "%d ms", time.Since(start).Milliseconds())
	return nil
}

// crowd brings up one host whose daemon is stopped, in a cluster of n peers that
// do not exist.
func crowd(ctx context.Context, bin string, n int) (l *lab.Lab, node *lab.Host, store *leases, err error) {
	if l, err = lab.Up(ctx, lab.Options{Nodes: 1, Bin: bin}); err != nil {
		return nil, nil, nil, err
	}
	// The demo's /16 has 255 subnets; this cluster needs more.
	if node, err = enlarge(ctx, l); err == nil {
		store, err = newLeases(l)
	}
	if err == nil {
		err = store.put(ctx, 0, n)
	}
	if err != nil {
		_, downErr := l.Down(context.WithoutCancel(ctx))
		return nil, nil, nil, errors.Join(err, downErr)
	}
	return l, node, store, nil
}

// enlarge stops the daemon, gives the cluster a network for many nodes and
// removes what the daemon has written.
func enlarge(ctx context.Context, l *lab.Lab) (*lab.Host, error) {
	node := l.Host("node1")
	if _, err := node.StopDaemon(ctx, syscall.SIGTERM); err != nil {
		return nil, err
	}
	if _, err := node.Exec(ctx, "ip", "link", "delete", "tulle.1"); err != nil {
		return nil, err
	}
	return node, l.SetNetwork(ctx, "--network", "10.128.0.0/9", "--subnet-len", "24", "--force")
}

// passes tells what tulled has counted of its passes over the kernel.
func passes(ctx context.Context, node *lab.Host) (string, error) {
	values, err := held(ctx, node)
	if err != nil {
		return "", err
	}
	var counts []string
	for _, why := range []string{"kernel changed", "retry after error", "periodic look", "wanted state changed"} {
		if n, ok := values["tulle_passes_total{result=\"clean\",why=\""+why+"\"}"]; ok {
			counts = append(counts, fmt.Sprintf("%.0f %s", n, why))
		}
	}
	return strings.Join(counts, ", "), nil
}

// used is what a process has used so far.
type used struct {
	cpu            time.Duration // its own and its children's
	resident, peak int           // KiB
}

func usage(ctx context.Context, node *lab.Host) (used, error) {
	var u used
	list, err := node.Processes(ctx)
	if err != nil {
		return u, err
	}
	for _, p := range list {
		if p.Name != "tulled" || !p.Running {
			continue
		}
		stat, err := os.ReadFile(node.Path(fmt.Sprintf("/proc/%d/stat", p.Pid)))
		if err != nil {
			return u, err
		}
		// proc(5): utime, stime, cutime and cstime are fields 14 to 17; the
		// second, which may hold spaces, ends with a parenthesis.
		_, rest, _ := strings.Cut(string(stat), ") ")
		for _, field := range strings.Fields(rest)[11:15] {
			ticks, err := strconv.Atoi(field)
			if err != nil {
				return u, err
			}
			u.cpu += time.Duration(ticks) * time.Second / 100 // USER_HZ
		}
		status, err := os.ReadFile(node.Path(fmt.Sprintf("/proc/%d/status", p.Pid)))
		if err != nil {
			return u, err
		}
		for line := range strings.Lines(string(status)) {
			key, value, _ := strings.Cut(line, ":")
			kib, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			switch key {
			case "VmRSS":
				u.resident = kib
			case "VmHWM":
				u.peak = kib
			}
		}
		return u, nil
	}
	return u, fmt.Errorf("tulled does not run")
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
