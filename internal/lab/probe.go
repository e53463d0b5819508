package lab

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"tulle/subnet"
)

// probeEvery is the time between two packets of a Probe.
const probeEvery = 10 * time.Millisecond

// Probe sends a small packet from one pod to another every 10 ms, whether the
// last was answered or not, and keeps account of the answers.
type Probe struct {
	socket *pinger
	to     net.Addr
	cancel context.CancelFunc

	sending, receiving sync.WaitGroup

	mu sync.Mutex // guards all following fields

	sent     []time.Time // in the order of sending
	answered []bool
}

// Losses is what a Probe has seen.
type Losses struct {
	Sent, Lost int
	Longest    time.Duration // from the first lost packet in a row to the next that was answered
}

func (l Losses) String() string {
	return fmt.Sprintf("%d of %d packets lost, for %s at most", l.Lost, l.Sent, l.Longest.Round(time.Millisecond))
}

// StartProbe begins to send packets of one family. Stop ends it.
func StartProbe(from, to *Pod, f subnet.Family) (*Probe, error) {
	ctx, cancel := context.WithCancel(context.Background())
	socket, err := newPinger(ctx, &from.Place, f, rand.N(1<<16))
	if err != nil {
		cancel()
		return nil, err
	}
	p := &Probe{socket: socket, to: &net.IPAddr{IP: to.Addrs[f].Addr().AsSlice()}, cancel: cancel}
	p.receiving.Go(p.receive)
	p.sending.Go(func() { p.send(ctx) })
	return p, nil
}

func (p *Probe) send(ctx context.Context) {
	pace := time.NewTicker(probeEvery)
	defer pace.Stop()
	for {
		p.mu.Lock()
		seq := len(p.sent) & 0xffff
		p.sent, p.answered = append(p.sent, time.Now()), append(p.answered, false)
		p.mu.Unlock()
		packet, err := p.socket.message(p.socket.id, seq, p.socket.small())
		if err != nil {
			panic(err) // of constants
		}
		_, _ = p.socket.conn.WriteTo(packet, p.to) // what could not be sent is lost
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
	}
}

// receive ends when the socket is closed.
func (p *Probe) receive() {
	buf := make([]byte, 1500)
	for {
		n, from, err := p.socket.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if seq, ok := p.socket.answer(buf[:n], p.socket.id); ok && from.String() == p.to.String() {
			p.answer(seq)
		}
	}
}

func (p *Probe) answer(seq int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.sent) - 1; i >= 0; i-- {
		if i&0xffff == seq {
			p.answered[i] = true
			return
		}
	}
}

// Wait returns when a packet that was sent after the call is answered.
func (p *Probe) Wait(ctx context.Context) error {
	p.mu.Lock()
	from := len(p.sent)
	p.mu.Unlock()
	for {
		if p.firstAnswered(from) >= 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no packet is answered: %w", context.Cause(ctx))
		case <-time.After(probeEvery):
		}
	}
}

func (p *Probe) firstAnswered(from int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := from; i < len(p.answered); i++ {
		if p.answered[i] {
			return i
		}
	}
	return -1
}

// Stop ends the probe, when all packets had time to be answered.
func (p *Probe) Stop() Losses {
	p.cancel()
	p.sending.Wait()
	for deadline := time.Now().Add(pingTimeout); p.losses().Lost > 0 && time.Now().Before(deadline); {
		time.Sleep(probeEvery)
	}
	p.socket.close()
	p.receiving.Wait()
	return p.losses()
}

func (p *Probe) losses() Losses {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := Losses{Sent: len(p.sent)}
	begin := time.Time{} // of a row of lost ones
	for i, at := range p.sent {
		if !p.answered[i] {
			l.Lost++
			if begin.IsZero() {
				begin = at
			}
			continue
		}
		if !begin.IsZero() {
			l.Longest, begin = max(l.Longest, at.Sub(begin)), time.Time{}
		}
	}
	if !begin.IsZero() {
		l.Longest = max(l.Longest, time.Since(begin))
	}
	return l
}
