package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"tulle/internal/lab"
)

// churnPeers is how many peers there are while some come and go.
const churnPeers = 1000

// measureChurn lets peers come and go for a while, ten times a second, and tells
// what the daemon holds before and after: what grows is a leak.
func measureChurn(ctx context.Context, bin string, long time.Duration) error {
	l, node, store, err := crowd(ctx, bin, churnPeers)
	if err != nil {
		return err
	}
	defer l.Down(context.WithoutCancel(ctx))
	defer store.close()
	if err := node.StartDaemon(ctx); err != nil {
		return err
	}
	if err := node.WaitReady(ctx); err != nil {
		return err
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	fmt.Printf("\n%s of churn among %d peers\n", long, churnPeers)
	before, err := held(ctx, node)
	if err != nil {
		return err
	}
	changes := 0
	for end := time.Now().Add(long); time.Now().Before(end); changes++ {
		i := rand.N(2 * churnPeers)
		if rand.N(2) == 0 {
			err = store.put(ctx, i, i+1)
		} else {
			err = store.remove(ctx, i)
		}
		if err != nil {
			return err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	after, err := held(ctx, node)
	if err != nil {
		return err
	}
	row("changes", "%d", changes)
	for _, what := range []string{"go_goroutines", "process_open_fds", "process_resident_memory_bytes"} {
		row(what+" before / after", "%.0f / %.0f", before[what], after[what])
	}
	row("log", "%d bytes", size(node.Log("tulled")))
	return nil
}

// held is what tulled tells of itself in /metrics.
func held(ctx context.Context, node *lab.Host) (map[string]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:8471/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := node.Client().Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	values := map[string]float64{}
	for scan := bufio.NewScanner(resp.Body); scan.Scan(); {
		line := scan.Text()
		at := max(0, strings.LastIndexByte(line, ' '))
		name, text := line[:at], strings.TrimSpace(line[at:])
		if value, err := strconv.ParseFloat(text, 64); err == nil {
			values[name] = value
		}
	}
	return values, nil
}
