package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"tulle/subnet"
)

const (
	transferMB      = 100 // of the proof
	transferTimeout = time.Minute
)

// transfer is the check that fetches much.
func (l *Lab) transfer() Check {
	return Check{Name: fmt.Sprintf("%d MB over TCP across hosts, unfragmented", l.transferMB), Run: checkTransfer}
}

// checkTransfer fetches that from a pod on another host, compares the checksum,
// and looks at both pods and both hosts for fragments.
func checkTransfer(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
	c := l.cast()
	return unfragmented([]*Place{&c.near.Place, &c.far.Place, &c.near.host.Place, &c.far.host.Place}, func() (string, error) {
		return fetchNoise(ctx, c.near, c.far, f, l.transferMB)
	})
}

func fetchNoise(ctx context.Context, from, to *Pod, f subnet.Family, megabytes int64) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, transferTimeout, fmt.Errorf("not done within %s", transferTimeout))
	defer cancel()
	bytes := megabytes * 1_000_000
	want := sha256.New()
	if _, err := io.Copy(want, noise(bytes)); err != nil {
		return "", err
	}
	url := fmt.Sprintf("%sbytes?n=%d", serveURL(to.Addrs[f].Addr()), bytes)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	start := time.Now()
	resp, err := from.Client().Do(req)
	if err != nil {
		return "", fmt.Errorf("%s from %s: %w", from.Name, to.Name, err)
	}
	defer resp.Body.Close()
	got := sha256.New()
	n, err := io.Copy(got, resp.Body)
	took := time.Since(start)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s from %s: after %d of %d bytes: %w", from.Name, to.Name, n, bytes, err)
	case n != bytes || string(got.Sum(nil)) != string(want.Sum(nil)):
		return "", fmt.Errorf("%s from %s: expected %d bytes with SHA-256 %x, saw %d with %x", from.Name, to.Name, bytes, want.Sum(nil), n, got.Sum(nil))
	}
	return fmt.Sprintf("%s, %.1f Gbit/s", took.Round(time.Millisecond), float64(n)*8/took.Seconds()/1e9), nil
}

// unfragmented runs f and fails if any of the places counted a fragment
// meanwhile.
func unfragmented(places []*Place, f func() (string, error)) (string, error) {
	before := make([]fragments, len(places))
	for i, p := range places {
		var err error
		if before[i], err = p.fragments(); err != nil {
			return "", err
		}
	}
	seen, err := f()
	errs := []error{err}
	for i, p := range places {
		after, err := p.fragments()
		if err == nil && after != before[i] {
			err = fmt.Errorf("%s: expected no fragment, saw %s; before: %s", p.Name, after, before[i])
		}
		errs = append(errs, err)
	}
	return seen, errors.Join(errs...)
}
