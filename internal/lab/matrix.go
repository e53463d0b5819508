package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"tulle/subnet"
)

// Matrix is what pods saw of each other: row is the sender, column the receiver.
type Matrix struct {
	Family subnet.Family
	Pods   []string
	Cells  [][]Cell
}

// Cell is one direction between two pods.
type Cell struct {
	Sent, Lost int
	RTT        time.Duration // mean of the answers; 0: none came
	Err        error         // why the last packet was lost, or could not be sent
}

const matrixRounds = 3

// Measure sends echo requests of one family from every pod to every other, as
// many as rounds unless one is lost.
// The error says that measuring itself was not possible; a loss is in the Matrix.
func (l *Lab) Measure(ctx context.Context, f subnet.Family, rounds int) (Matrix, error) {
	m := Matrix{Family: f, Cells: make([][]Cell, len(l.Pods))}
	addrs := make([]netip.Addr, len(l.Pods))
	for i, p := range l.Pods {
		m.Pods = append(m.Pods, p.Name)
		addrs[i] = p.Addrs[f].Addr()
	}
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0)) // more would measure each other
	for i, p := range l.Pods {
		m.Cells[i] = make([]Cell, len(addrs))
		g.Go(func() error { return p.measure(ctx, f, i, addrs, rounds, m.Cells[i]) })
	}
	return m, g.Wait()
}

func (p *Pod) measure(ctx context.Context, f subnet.Family, self int, addrs []netip.Addr, rounds int, cells []Cell) error {
	socket, err := newPinger(ctx, &p.Place, f, os.Getpid()&0xffff)
	if err != nil {
		return err
	}
	defer socket.close()
	for i, addr := range addrs {
		if i == self {
			continue
		}
		c := &cells[i]
		for range rounds {
			c.Sent++
			rtt, err := socket.ping(ctx, addr, socket.small())
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				c.Lost, c.Err = 1, err
				break // each more would cost another timeout
			}
			c.RTT += rtt
		}
		if got := c.Sent - c.Lost; got > 0 {
			c.RTT /= time.Duration(got)
		}
	}
	return nil
}

// total is the sum of all cells, with the mean of their times.
func (m Matrix) total() Cell { return sum(m.Cells...) }

func sum(rows ...[]Cell) Cell {
	var all Cell
	var answers int
	for _, row := range rows {
		for _, c := range row {
			got := c.Sent - c.Lost
			all.Sent, all.Lost = all.Sent+c.Sent, all.Lost+c.Lost
			all.RTT += c.RTT * time.Duration(got)
			answers += got
		}
	}
	if answers > 0 {
		all.RTT /= time.Duration(answers)
	}
	return all
}

// verdict fails when a packet was lost, and names the directions.
func (m Matrix) verdict() (string, error) {
	all := m.total()
	var errs []error
	for i, row := range m.Cells {
		for j, c := range row {
			if c.Lost > 0 {
				errs = append(errs, fmt.Errorf("%s to %s: expected an answer to each packet, saw %d of %d lost: %w", m.Pods[i], m.Pods[j], c.Lost, c.Sent, c.Err))
			}
		}
	}
	const most = 10
	if len(errs) > most {
		errs = append(errs[:most], fmt.Errorf("and %d more", len(errs)-most))
	}
	return fmt.Sprintf("%d of %d answered, mean %s", all.Sent-all.Lost, all.Sent, millis(all.RTT)), errors.Join(errs...)
}

// wide is how many pods fit side by side in 80 columns.
const wide = 8

// String is the matrix as a table, or one line per sender if that is too wide.
func (m Matrix) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	legend := m.Family.String() + " round-trip time by sender (row) and receiver (column)"
	if len(m.Pods) > wide {
		legend = m.Family.String() + " round-trip time by sender"
		m.writeSenders(w)
	} else {
		m.writeCells(w)
	}
	w.Flush()
	all := m.total()
	fmt.Fprintf(&b, "%s; %d of %d packets lost\n", legend, all.Lost, all.Sent)
	return b.String()
}

func (m Matrix) writeCells(w io.Writer) {
	fmt.Fprintf(w, "ms\t%s\t\n", strings.Join(m.Pods, "\t"))
	for i, row := range m.Cells {
		fmt.Fprintf(w, "%s\t", m.Pods[i])
		for j, c := range row {
			text := c.String()
			if i == j {
				text = "-"
			}
			fmt.Fprintf(w, "%s\t", text)
		}
		fmt.Fprintln(w)
	}
}

func (m Matrix) writeSenders(w io.Writer) {
	fmt.Fprintf(w, "ms\tmean\tlost\t\n")
	for i, row := range m.Cells {
		all := sum(row)
		fmt.Fprintf(w, "%s to all\t%.2f\t%d of %d\t\n", m.Pods[i], all.RTT.Seconds()*1e3, all.Lost, all.Sent)
	}
}

// String is the time in ms, with the loss if there was one.
func (c Cell) String() string {
	switch {
	case c.Lost == 0:
		return fmt.Sprintf("%.2f", c.RTT.Seconds()*1e3)
	case c.Lost == c.Sent:
		return "lost"
	}
	return fmt.Sprintf("%d/%d lost", c.Lost, c.Sent)
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f ms", d.Seconds()*1e3) }
