package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// claims are what no other tulled of this host may have: two that share one of
// these would take each other's rows for their own leftovers, or write over each
// other's files. A claim is an abstract socket (unix(7)), which belongs to the network
// namespace, goes with the process, and is seen by all in /proc/net/unix.
type claims struct {
	mu sync.Mutex // guards what follows

	own     map[string]net.Listener // for as long as we live, by name
	network map[string]net.Listener // of the network that we serve, by name
}

// claim is one of them, and what is wrong when another has it.
type claim struct{ name, taken string }

const claimNames = "@tulle/tulled/"

// begin claims what the configuration names.
func (c *claims) begin(config config) error {
	wanted := []claim{{
		"prefix" + config.Etcd.Prefix,
		fmt.Sprintf("another tulled of this host serves the network at %s; stop it first, or give this one another --etcd-prefix", config.Etcd.Prefix),
	}}
	for flag, path := range map[string]string{"subnet-file": config.SubnetFile, "state-dir": memoryPath(config)} {
		name, err := fileName(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // and nobody has it
		}
		if err != nil {
			return fmt.Errorf("--%s: %w", flag, err)
		}
		wanted = append(wanted, claim{name, fmt.Sprintf("another tulled of this host has the file %s; give this one another --%s", path, flag)})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	c.own, err = take(wanted, nil)
	return err
}

// fileName names a file by its folder, whatever mounts and links lead there.
func fileName(path string) (string, error) {
	dir := filepath.Dir(path)
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return "", &os.PathError{Op: "stat", Path: dir, Err: err}
	}
	return fmt.Sprintf("file/%d:%d/%s", s.Dev, s.Ino, filepath.Base(path)), nil
}

// serve claims what a network needs, in place of what the former one needed.
// Nothing changes if it can't be had.
func (c *claims) serve(s site) error {
	var wanted []claim
	if dev := s.backend().Device(); dev != "" {
		wanted = append(wanted, claim{"device/" + dev,
			fmt.Sprintf("another tulled of this host has the device %s; choose another VNI in the configuration of one of the two networks", dev)})
	}
	for _, p := range s.network.Pools {
		if p.IsValid() {
			wanted = append(wanted, claim{networkName(p.Prefix), overlap(p.Prefix, p.Prefix)})
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now, err := take(wanted, c.network)
	if err == nil {
		err = c.alone(s.network)
	}
	if err != nil {
		closeBut(now, c.network)
		return err
	}
	closeBut(c.network, now)
	c.network = now
	return nil
}

const networkNames = "network/"

func networkName(p netip.Prefix) string { return networkNames + p.String() }

func overlap(ours, theirs netip.Prefix) string {
	return fmt.Sprintf("the network %s overlaps %s, which another tulled of this host serves; choose another prefix for one of the two networks", ours, theirs)
}

// alone returns an error if another's network overlaps ours.
func (c *claims) alone(n subnet.Network) error {
	text, err := os.ReadFile("/proc/self/net/unix")
	if err != nil {
		return fmt.Errorf("look for other networks on this host: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		_, name, ok := strings.Cut(strings.TrimSpace(line), claimNames+networkNames)
		theirs, err := netip.ParsePrefix(name)
		if !ok || err != nil || c.network[networkName(theirs)] != nil {
			continue
		}
		for _, p := range n.Pools {
			if p.Prefix != theirs && p.IsValid() && p.Prefix.Overlaps(theirs) {
				return errors.New(overlap(p.Prefix, theirs))
			}
		}
	}
	return nil
}

// take takes all claims that are not held yet, or none.
func take(wanted []claim, held map[string]net.Listener) (map[string]net.Listener, error) {
	taken := map[string]net.Listener{}
	for _, w := range wanted {
		l := held[w.name]
		if l == nil {
			var err error
			l, err = net.Listen("unix", socketName(w.name))
			if err != nil {
				closeBut(taken, held)
			}
			if errors.Is(err, unix.EADDRINUSE) {
				return nil, errors.New(w.taken)
			}
			if err != nil {
				return nil, fmt.Errorf("see whether another tulled runs on this host: %w", err)
			}
		}
		taken[w.name] = l
	}
	return taken, nil
}

// socketName is the name of a claim's socket, which unix(7) has 107 bytes for.
func socketName(name string) string {
	if len(name) > 80 {
		sum := sha256.Sum256([]byte(name))
		name = fmt.Sprintf("%.16s/%x", name, sum[:16])
	}
	return claimNames + name
}

// close gives all claims up.
func (c *claims) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	closeBut(c.own, nil)
	closeBut(c.network, nil)
}

// closeBut closes those that are not among others.
func closeBut(some, others map[string]net.Listener) {
	for name, l := range some {
		if others[name] == nil {
			l.Close()
		}
	}
}
