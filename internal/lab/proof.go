package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tulle/subnet"
)

// Check is one thing that must hold in a lab, tried with real traffic of each
// family that its pods have.
type Check struct {
	Name string
	// Run returns what was seen, in a few words for the table. The error says
	// what was expected and what was seen instead.
	Run func(context.Context, *Lab, subnet.Family) (string, error)
	// Hosts says that the check needs hosts with addresses of the family.
	Hosts bool
}

// Row is a Check that was run.
type Row struct {
	Name   string
	Family subnet.Family
	Seen   string
	Err    error
	Took   time.Duration
}

// Proof is what Prove found.
type Proof struct {
	Matrices []Matrix // one for each family
	Rows     []Row
}

// checkTimeout bounds one check in a lab where nothing answers.
const checkTimeout = 2 * time.Minute

// checks lists what Prove tries, in order, after the matrix.
func (l *Lab) checks() []Check {
	return []Check{
		l.transfer(),
		{Name: "full-size packet with DF across hosts", Run: checkFullSize},
		{Name: "one byte more than the MTU is refused", Run: checkTooLarge},
		{Name: "host to a pod on another host", Run: checkHostToPod},
		{Name: "pod to another host", Run: checkPodToHost, Hosts: true},
		{Name: "pod to pod across hosts: source kept", Run: checkSourceKept},
		{Name: "pod to outside host: source masqueraded", Run: checkMasquerade, Hosts: true},
		{Name: "two containers of one pod over localhost", Run: checkLocalhost},
		{Name: "service to a pod on another host", Run: checkServiceAcross},
		{Name: "service to a pod on the same host", Run: checkServiceSameHost},
		{Name: "service to the asking pod itself (hairpin)", Run: checkServiceHairpin},
		{Name: "node port from the outside host", Run: checkNodePort, Hosts: true},
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
	matrix := Check{Name: "every pod to every pod", Run: func(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
		m, err := l.Measure(ctx, f, matrixRounds)
		proof.Matrices = append(proof.Matrices, m)
		seen, lost := m.verdict()
		return seen, errors.Join(err, lost)
	}}
	checks := append([]Check{matrix}, l.checks()...)
	for _, c := range checks {
		for _, f := range l.Families.List() {
			if c.Hosts && !slices.Contains(l.Underlay.List(), f) {
				continue
			}
			progress(fmt.Sprintf("%s: %s", f, c.Name))
			row := l.try(ctx, c, f)
			if ctx.Err() != nil {
				return proof, context.Cause(ctx)
			}
			proof.Rows = append(proof.Rows, row)
		}
	}
	return proof, proof.err()
}

func (l *Lab) try(ctx context.Context, c Check, f subnet.Family) Row {
	ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, fmt.Errorf("not done within %s", checkTimeout))
	defer cancel()
	start := time.Now()
	seen, err := c.Run(ctx, l, f)
	return Row{c.Name, f, seen, err, time.Since(start)}
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
			errs = append(errs, fmt.Errorf("%s: %s: %w", r.Family, r.Name, r.Err))
		}
	}
	return errors.Join(errs...)
}

// String is the proof as a table for a terminal.
func (p Proof) String() string {
	var b strings.Builder
	for _, m := range p.Matrices {
		b.WriteString(m.String())
		b.WriteString("\n")
	}
	held := 0
	for _, r := range p.Rows {
		if r.Err == nil {
			held++
			fmt.Fprintf(&b, "ok    %s  %-44s %s\n", r.Family, r.Name, r.Seen)
			continue
		}
		fmt.Fprintf(&b, "FAIL  %s  %s\n", r.Family, r.Name)
		for line := range strings.Lines(r.Err.Error()) {
			fmt.Fprintf(&b, "      %s\n", strings.TrimRight(line, "\n"))
		}
	}
	fmt.Fprintf(&b, "\n%d of %d checks held\n", held, len(p.Rows))
	return b.String()
}
