package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Check is one thing that must hold in a lab, tried with real traffic.
type Check struct {
	Name string
	// Run returns what was seen, in a few words for the table. The error says
	// what was expected and what was seen instead.
	Run func(context.Context, *Lab) (string, error)
}

// Row is a Check that was run.
type Row struct {
	Name string
	Seen string
	Err  error
	Took time.Duration
}

// Proof is what Prove found.
type Proof struct {
	Matrix Matrix
	Rows   []Row
}

// checkTimeout bounds one check in a lab where nothing answers.
const checkTimeout = 2 * time.Minute

// Checks lists what Prove tries, in order, after the matrix.
func Checks() []Check {
	return []Check{
		{"100 MB over TCP across hosts, unfragmented", checkTransfer},
		{"full-size packet with DF across hosts", checkFullSize},
		{"one byte more than the MTU is refused", checkTooLarge},
		{"host to a pod on another host", checkHostToPod},
		{"pod to another host", checkPodToHost},
		{"pod to pod across hosts: source kept", checkSourceKept},
		{"pod to outside host: source masqueraded", checkMasquerade},
		{"two containers of one pod over localhost", checkLocalhost},
		{"service to a pod on another host", checkServiceAcross},
		{"service to a pod on the same host", checkServiceSameHost},
		{"service to the asking pod itself (hairpin)", checkServiceHairpin},
		{"node port from the outside host", checkNodePort},
	}
}

// Prove runs all checks and tells each one to progress as it begins. It goes on
// after a check that fails; the error is not nil when any did, or when the lab
// is too small to try them.
func (l *Lab) Prove(ctx context.Context, progress func(string)) (Proof, error) {
	var proof Proof
	if err := l.provable(); err != nil {
		return proof, err
	}
	matrix := Check{"every pod to every pod", func(ctx context.Context, l *Lab) (string, error) {
		var err error
		proof.Matrix, err = l.Measure(ctx, matrixRounds)
		seen, lost := proof.Matrix.verdict()
		return seen, errors.Join(err, lost)
	}}
	checks := append([]Check{matrix}, Checks()...)
	for _, c := range checks {
		progress(c.Name)
		row := l.try(ctx, c)
		if ctx.Err() != nil {
			return proof, context.Cause(ctx)
		}
		proof.Rows = append(proof.Rows, row)
	}
	return proof, proof.err()
}

func (l *Lab) try(ctx context.Context, c Check) Row {
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, fmt.Errorf("not done within %s", checkTimeout))
	defer cancel()
	start := time.Now()
	seen, err := c.Run(ctx, l)
	return Row{c.Name, seen, err, time.Since(start)}
}

// provable reports whether the lab has what every check needs.
func (l *Lab) provable() error {
	pods := map[*Host]int{}
	for _, p := range l.Pods {
		pods[p.host]++
	}
	if len(l.Nodes()) < 2 {
		return errors.New("the proof needs 2 nodes or more, for it sends across hosts")
	}
	for _, h := range l.Nodes() {
		if pods[h] < 2 {
			return fmt.Errorf("the proof needs 2 pods or more on each node, for it sends between pods of one host; %s has %d", h.Name, pods[h])
		}
	}
	return nil
}

// cast is who plays in most checks: near and beside are pods of one node, far
// is one of another node.
type cast struct{ near, beside, far *Pod }

func (l *Lab) cast() cast {
	nodes := l.Nodes()
	first, last := l.podsOn(nodes[0]), l.podsOn(nodes[len(nodes)-1])
	return cast{first[0], first[1], last[0]}
}

func (l *Lab) podsOn(h *Host) []*Pod {
	var pods []*Pod
	for _, p := range l.Pods {
		if p.host == h {
			pods = append(pods, p)
		}
	}
	return pods
}

func (p Proof) err() error {
	var errs []error
	for _, r := range p.Rows {
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", r.Name, r.Err))
		}
	}
	return errors.Join(errs...)
}

// String is the proof as a table for a terminal.
func (p Proof) String() string {
	var b strings.Builder
	b.WriteString(p.Matrix.String())
	b.WriteString("\n")
	held := 0
	for _, r := range p.Rows {
		if r.Err == nil {
			held++
			fmt.Fprintf(&b, "ok    %-44s %s\n", r.Name, r.Seen)
			continue
		}
		fmt.Fprintf(&b, "FAIL  %s\n", r.Name)
		for line := range strings.Lines(r.Err.Error()) {
			fmt.Fprintf(&b, "      %s\n", strings.TrimRight(line, "\n"))
		}
	}
	fmt.Fprintf(&b, "\n%d of %d checks held\n", held, len(p.Rows))
	return b.String()
}
