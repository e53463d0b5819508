package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"tulle/subnet"
)

// saw asks from the place at url. It wants that answerer answers, and that it
// saw the request come from one of the sources.
func saw(ctx context.Context, from *Place, url, answerer string, sources ...netip.Addr) (string, error) {
	g, err := greet(ctx, from, url)
	switch {
	case err != nil:
		return "", fmt.Errorf("expected an answer of %s, saw: %w", answerer, err)
	case g.Name != answerer:
		return "", fmt.Errorf("%s: GET %s: expected an answer of %s, saw one of %s", from.Name, url, answerer, g.Name)
	case !slices.Contains(sources, g.Peer):
		return "", fmt.Errorf("%s: GET %s: expected %s to see a source of %s, saw %s", from.Name, url, answerer, sources, g.Peer)
	}
	return fmt.Sprintf("%s to %s, seen as %s", from.Name, answerer, g.Peer), nil
}

// nodeSources are the addresses that a pod may see when the pod's node sends:
// that of the overlay's device, of the bridge and of the underlay.
func nodeSources(p *Pod, f subnet.Family) []netip.Addr {
	sources := []netip.Addr{subnet.Gateway(p.Addrs[f]), subnet.Bridge(p.Addrs[f]).Addr()}
	if own := p.host.Addrs[f]; own.IsValid() {
		sources = append(sources, own)
	}
	return sources
}

func checkHostToPod(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
	c := l.cast()
	return saw(ctx, &c.near.host.Place, serveURL(c.far.Addrs[f].Addr()), c.far.Name, nodeSources(c.near, f)...)
}

// checkPodToHost asks a server on the other node's underlay address, which lies
// outside of the pods' network: the source is the pod's node.
func checkPodToHost(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
	c := l.cast()
	host := c.far.host
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listener, err := host.Listen(ctx, "tcp", netip.AddrPortFrom(host.Addrs[f], ServePort).String())
	if err != nil {
		return "", err
	}
	done := make(chan error, 1) // serveHTTP's goroutine sends once
	go func() { done <- serveHTTP(ctx, listener, host.Name) }()
	seen, err := saw(ctx, &c.near.Place, serveURL(host.Addrs[f]), host.Name, c.near.host.Addrs[f])
	cancel()
	<-done
	return seen, err
}

func checkSourceKept(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
	c := l.cast()
	return saw(ctx, &c.near.Place, serveURL(c.far.Addrs[f].Addr()), c.far.Name, c.near.Addrs[f].Addr())
}

func checkMasquerade(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
	c := l.cast()
	return saw(ctx, &c.near.Place, serveURL(addresses[f].stranger), "outside", c.near.host.Addrs[f])
}

// checkLocalhost starts a second process in the pod, which asks the first one.
func checkLocalhost(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
	c := l.cast()
	text, err := c.near.Exec(ctx, "tullectl", "lab", "get", serveURL(loopback[f]))
	if err != nil {
		return "", err
	}
	g, err := parseGreeting(text)
	if err != nil {
		return "", err
	}
	if g.Name != c.near.Name || !g.Peer.IsLoopback() {
		return "", fmt.Errorf("expected an answer of %s to a loopback address, saw one of %s to %s", c.near.Name, g.Name, g.Peer)
	}
	return fmt.Sprintf("in %s, seen as %s", c.near.Name, g.Peer), nil
}
