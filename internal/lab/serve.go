package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"tulle/subnet"
)

// ServePort is where the process of every pod, and of the outside host, answers.
const ServePort = 8080

// Greeting is what a process of the lab answers to GET /.
type Greeting struct {
	Name string     `json:"name"` // of the pod or host
	Peer netip.Addr `json:"peer"` // whom the request came from, as seen there
}

// RunServe is `tullectl lab serve`: it answers until ctx ends.
func RunServe(ctx context.Context, name string) error {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", ":"+strconv.Itoa(ServePort))
	if err != nil {
		return err
	}
	return serveHTTP(ctx, l, name)
}

func serveHTTP(ctx context.Context, l net.Listener, name string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		peer, _ := netip.ParseAddrPort(r.RemoteAddr)
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Greeting{name, peer.Addr().Unmap()})
	})
	mux.HandleFunc("GET /bytes", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if err != nil || n < 0 {
			http.Error(w, "n: give a number of bytes", http.StatusBadRequest)
			return
		}
		_, _ = io.Copy(w, noise(n))
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

// noise is n bytes that are the same each time and in no two places alike.
func noise(n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{1}), n)
}

// RunGet is `tullectl lab get`: it writes the body at url to w.
func RunGet(ctx context.Context, url string, w io.Writer) error {
	body, err := get(ctx, http.DefaultClient, url)
	_, writeErr := w.Write(body)
	return errors.Join(err, writeErr)
}

// startServe starts the answering process of a pod, or of a host if pod is nil,
// and waits until it answers to the place itself.
func startServe(ctx context.Context, h *Host, pod *Pod) error {
	a, from := StartArgs{Name: "serve"}, &h.Place
	if pod != nil {
		a, from = StartArgs{Name: pod.Name, Pod: pod.Name}, &pod.Place
	}
	a.Args = []string{"tullectl", "lab", "serve", "--name", from.Name}
	if _, err := h.Keep(ctx, a); err != nil {
		return err
	}
	return h.waitAnswer(ctx, a.Name, from, serveURL(loopback[subnet.IPv4]))
}

var loopback = [2]netip.Addr{subnet.IPv4: netip.AddrFrom4([4]byte{127, 0, 0, 1}), subnet.IPv6: netip.IPv6Loopback()}

func serveURL(addr netip.Addr) string {
	return fmt.Sprintf("http://%s/", netip.AddrPortFrom(addr, ServePort))
}

// greet asks whoever answers at url who it is and whom it saw asking.
func greet(ctx context.Context, from *Place, url string) (Greeting, error) {
	body, err := get(ctx, from.Client(), url)
	if err != nil {
		return Greeting{}, fmt.Errorf("%s: %w", from.Name, err)
	}
	return parseGreeting(string(body))
}

func parseGreeting(text string) (Greeting, error) {
	var g Greeting
	if err := json.Unmarshal([]byte(text), &g); err != nil {
		return Greeting{}, fmt.Errorf("expected a greeting, saw %q: %w", text, err)
	}
	return g, nil
}
