package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serve answers on the status address until ctx ends.
func (d *daemon) serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "tulled: /healthz /readyz /state /state?format=json /mesh /metrics\n")
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", d.serveReady)
	mux.HandleFunc("GET /state", d.serveState)
	mux.HandleFunc("GET /mesh", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, d.mesh(r.Context())) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.metrics.registry, promhttp.HandlerOpts{}))
	s := &http.Server{
		Handler:     mux,
		ReadTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve status: %w", err)
	}
	return ctx.Err()
}

func (d *daemon) serveReady(w http.ResponseWriter, _ *http.Request) {
	d.mu.Lock()
	ready, doing := d.ready, d.doing
	d.mu.Unlock()
	if ready {
		answer(w, http.StatusOK, "ready\n")
		return
	}
	answer(w, http.StatusServiceUnavailable, doing+"\n")
}

func (d *daemon) serveState(w http.ResponseWriter, r *http.Request) {
	n := d.state(r.Context())
	if r.URL.Query().Get("format") == "json" || strings.Contains(r.Header.Get("Accept"), "application/json") {
		writeJSON(w, n)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if n.Write(w, false) == nil {
		fmt.Fprintln(w)
		_ = n.WriteRows(w)
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // whoever asked has gone
}

func answer(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text)
}
