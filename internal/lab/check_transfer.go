package lab

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"tulle/subnet"
)

const (
	transferBytes   = 100_000_000
	transferTimeout = time.Minute
)

// checkTransfer fetches 100 MB from a pod on another host, compares the checksum,
// and looks at both pods and both hosts for fragments.
func checkTransfer(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
	c := l.cast()
	return unfragmented([]*Place{&c.near.Place, &c.far.Place, &c.near.host.Place, &c.far.host.Place}, func() (string, error) {
		return fetchNoise(ctx, c.near, c.far, f)
	})
}

// noiseSum is the checksum of what is fetched, which is always the same.
var noiseSum = sync.OnceValues(func() (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	_, err = io.Copy(h, noise(transferBytes))
	return [sha256.Size]byte(h.Sum(nil)), err
})

func fetchNoise(ctx context.Context, from, to *Pod, f subnet.Family) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, transferTimeout, fmt.Errorf("not done within %s", transferTimeout))
	defer cancel()
	want, err := noiseSum()
	if err != nil {
		return "", err
	}
	url := fmt.Sprintf("%sbytes?n=%d", serveURL(to.Addrs[f].Addr()), transferBytes)
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
		return "", fmt.Errorf("%s from %s: after %d of %d bytes: %w", from.Name, to.Name, n, transferBytes, err)
	case n != transferBytes || [sha256.Size]byte(got.Sum(nil)) != want:
		return "", fmt.Errorf("%s from %s: expected %d bytes with SHA-256 %x, saw %d with %x", from.Name, to.Name, transferBytes, want, n, got.Sum(nil))
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
