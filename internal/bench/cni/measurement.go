package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f", float64(d.Microseconds())/1000) }

func (c costs) String() string { return ms(median(c.wall)) + " / " + ms(median(c.cpu)) }

// costs are those of many rounds.
type costs struct{ wall, cpu []time.Duration }

func (c *costs) add(one cost) {
	c.wall, c.cpu = append(c.wall, one.wall), append(c.cpu, one.cpu)
}

// byTurns attaches and detaches pods by turns, one of each contender after the other.
func byTurns(contenders []*contender, rounds, port int) (adds, dels []costs, err error) {
	adds, dels = make([]costs, len(contenders)), make([]costs, len(contenders))
	for round := range rounds + 2 {
		for i, c := range contenders {
			p, err := c.pod(port)
			if err != nil {
				return nil, nil, err
			}
			added, err := c.call("ADD", p)
			if err != nil {
				return nil, nil, err
			}
			deleted, err := c.call("DEL", p)
			if err != nil {
				return nil, nil, err
			}
			p.close()
			if round >= 2 { // the first ones make the bridge and warm the caches
				adds[i].add(added)
				dels[i].add(deleted)
			}
		}
	}
	return adds, dels, nil
}

func texts(all []costs) []string {
	var list []string
	for _, c := range all {
		list = append(list, c.String())
	}
	return list
}

func oneByOne(contenders []*contender, rounds int, rows *[]row) error {
	adds, dels, err := byTurns(contenders, rounds, 0)
	if err != nil {
		return err
	}
	*rows = append(*rows, row{"ADD, one after another, wall / CPU, ms", texts(adds)}, row{"DEL, wall / CPU, ms", texts(dels)})
	return nil
}

func withPort(contenders []*contender, rounds int, rows *[]row) error {
	adds, dels, err := byTurns(contenders, rounds, 8080)
	if err != nil {
		return err
	}
	*rows = append(*rows, row{"ADD with a port mapping, wall / CPU, ms", texts(adds)}, row{"DEL with a port mapping, wall / CPU, ms", texts(dels)})
	return nil
}

// many runs a verb for pods, eight at a time, and returns how long all took.
func (c *contender) many(verb string, pods []*pod) (time.Duration, error) {
	const workers = 8
	queue := make(chan *pod)
	var group sync.WaitGroup
	var mu sync.Mutex
	var failed error
	start := time.Now()
	for range workers {
		group.Go(func() {
			for p := range queue {
				if _, err := c.call(verb, p); err != nil {
					mu.Lock()
					failed = err
					mu.Unlock()
				}
			}
		})
	}
	for _, p := range pods {
		queue <- p
	}
	close(queue)
	group.Wait()
	return time.Since(start), failed
}

func (c *contender) crowd(n int) ([]*pod, error) {
	var pods []*pod
	for range n {
		p, err := c.pod(0)
		if err != nil {
			return nil, err
		}
		pods = append(pods, p)
	}
	return pods, nil
}

// atOnce is the rate at which pods are attached and detached, eight at a time.
func atOnce(contenders []*contender, rounds int) (row, error) {
	r := row{what: "ADD, DEL, 8 at a time, per second"}
	for _, c := range contenders {
		pods, err := c.crowd(max(rounds, 40))
		if err != nil {
			return r, err
		}
		text := ""
		for _, verb := range []string{"ADD", "DEL"} {
			took, err := c.many(verb, pods)
			if err != nil {
				return r, err
			}
			if text != "" {
				text += ", "
			}
			text += fmt.Sprintf("%.0f", float64(len(pods))/took.Seconds())
		}
		for _, p := range pods {
			p.close()
		}
		r.values = append(r.values, text)
	}
	return r, nil
}

const settle = 5 * time.Second

// crowded compares ADD on a node with many pods with ADD on one with none. The two
// are measured right after one another.
func crowded(contenders []*contender, rounds, pods int) (row, error) {
	r := row{what: fmt.Sprintf("ADD with %d pods on the node against none, wall / CPU", pods)}
	for _, c := range contenders {
		alone := []*contender{c}
		few, _, err := byTurns(alone, rounds, 0)
		if err != nil {
			return r, err
		}
		crowd, err := c.crowd(pods)
		if err != nil {
			return r, err
		}
		if _, err := c.many("ADD", crowd); err != nil {
			return r, err
		}
		// New interfaces join multicast groups and look for duplicate addresses, which
		// the bridge sends to all: with hundreds of pods that takes seconds.
		time.Sleep(settle)
		full, _, err := byTurns(alone, rounds, 0)
		if err != nil {
			return r, err
		}
		if _, err := c.many("DEL", crowd); err != nil {
			return r, err
		}
		for _, p := range crowd {
			p.close()
		}
		a, b := median(few[0].wall), median(full[0].wall)
		c, d := median(few[0].cpu), median(full[0].cpu)
		r.values = append(r.values, fmt.Sprintf("%.2f / %.2f times", float64(b)/float64(a), float64(d)/float64(c)))
	}
	return r, nil
}

// firstReply is the time from ADD's return to the first answer of the new pod to
// another pod on the bridge.
func firstReply(contenders []*contender, rounds int) (row, error) {
	r := row{what: "ADD's return to the first reply, ms"}
	for _, c := range contenders {
		peer, err := c.pod(0)
		if err != nil {
			return r, err
		}
		if _, err := c.call("ADD", peer); err != nil {
			return r, err
		}
		var waits []time.Duration
		for range rounds {
			p, err := c.pod(0)
			if err != nil {
				return r, err
			}
			if _, err := c.call("ADD", p); err != nil {
				return r, err
			}
			wait, err := ping(peer, p)
			if err != nil {
				return r, err
			}
			waits = append(waits, wait)
			if _, err := c.call("DEL", p); err != nil {
				return r, err
			}
			p.close()
		}
		if _, err := c.call("DEL", peer); err != nil {
			return r, err
		}
		peer.close()
		r.values = append(r.values, ms(median(waits)))
	}
	return r, nil
}

// ping asks from one pod until the other one answers.
func ping(from, to *pod) (time.Duration, error) {
	addr, err := to.addr()
	if err != nil {
		return 0, err
	}
	start := time.Now()
	err = from.ns.Do(func(ns.NetNS) error { return ask(addr, start) })
	return time.Since(start), err
}

// ask sends echo requests, one after another, until there is a reply.
func ask(addr string, start time.Time) error {
	conn, err := icmp.ListenPacket("ip4:icmp", "0.0.0.0")
	if err != nil {
		return err
	}
	defer conn.Close()
	text, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: 1, Seq: 1}}).Marshal(nil)
	if err != nil {
		return err
	}
	buf := make([]byte, 1500)
	for time.Since(start) < 10*time.Second {
		if _, err := conn.WriteTo(text, &net.IPAddr{IP: net.ParseIP(addr)}); err != nil {
			continue
		}
		if err := conn.SetReadDeadline(time.Now().Add(2 * time.Millisecond)); err != nil {
			return err
		}
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				break // ask again
			}
			if m, err := icmp.ParseMessage(1, buf[:n]); err == nil && m.Type == ipv4.ICMPTypeEchoReply && from.String() == addr {
				return nil
			}
		}
	}
	return fmt.Errorf("%s does not answer", addr)
}

// sizes are those of all binaries that a pod's start needs.
func sizes(contenders []*contender) (row, error) {
	r := row{what: "binaries, MB (port mappings included)"}
	for _, c := range contenders {
		names := c.plugins
		if c.name != "tulle" {
			names = append(slices.Clone(names), "portmap")
		}
		total := int64(0)
		for _, name := range names {
			s, err := os.Stat(filepath.Join(c.dir, name))
			if err != nil {
				return r, err
			}
			total += s.Size()
		}
		r.values = append(r.values, fmt.Sprintf("%.1f", float64(total)/1e6))
	}
	return r, nil
}
