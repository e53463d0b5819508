package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// pollEvery is how often a process that starts is asked whether it is there.
const pollEvery = 20 * time.Millisecond

var errEnded = errors.New("it ended")

// waitAnswer returns when a GET of url from the place gets status 200. It gives
// up when the process that should answer ends, and tells the end of its log.
func (h *Host) waitAnswer(ctx context.Context, process string, from *Place, url string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ctx, stop := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("no answer within %s", startTimeout))
	defer stop()
	go func() {
		if s, err := h.Wait(ctx, process); err == nil {
			cancel(fmt.Errorf("%w: %s", errEnded, s.Exit))
		}
	}()

	for {
		_, last := get(ctx, from.Client(), url)
		if last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %s: %w (GET %s: %w)%s", h.Name, process, context.Cause(ctx), url, last, h.logTail(process+".log"))
		case <-time.After(pollEvery):
		}
	}
}

// get returns the body at url. Another status than 200 is an error that tells
// the body.
func get(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, fmt.Errorf("no answer within %s", answerTimeout))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(body)))
	}
	return body, err
}

// answerTimeout is how long one small request may take. A lost SYN is sent
// again after 1 s and 3 s, so that a single loss does not fail the request.
const answerTimeout = 5 * time.Second
