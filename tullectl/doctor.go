package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tulle/internal/doctor"
	"tulle/internal/flags"
	"tulle/internal/table"
	"tulle/subnet/etcd"
)

func doctorCommand() *cobra.Command {
	var p places
	var c etcd.Config
	var asJSON bool
	var tried int
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "say what is wrong on this host, and which command mends it",
		Long: `doctor looks at all that pods' traffic needs on this host: the kernel and its
settings, tulled, etcd, the device towards the other nodes, routes and rules, the
pods' bridge and the CNI configuration. It sends a few packets to other nodes, with
and without the tunnel, and changes nothing. What it says is listed in
Documentation/troubleshooting.md. The exit status is 1 if anything is wrong, and it
prints one line if nothing is.`,
		Example: "  tullectl doctor\n  tullectl doctor --json | jq -r '.[] | .mend'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given := endpointsGiven(cmd)
			if err := flags.FromEnv(cmd.Flags(), "status-addr", "state-dir", "subnet-file", "etcd-"); err != nil {
				return usageError{err}
			}
			if given {
				if err := c.Check(); err != nil {
					return usageError{err}
				}
			}
			facts, err := gather(cmd.Context(), p, c, given, tried)
			if err != nil {
				return err
			}
			findings := doctor.Examine(facts)
			out := cmd.OutOrStdout()
			if asJSON {
				err = printJSON(out, findings)
			} else {
				err = doctor.Write(out, findings, table.Colour(out))
			}
			if err == nil && len(findings) > 0 {
				err = exitError{status: exitFailed}
			}
			return err
		},
	}
	p.register(cmd.Flags())
	flags.Etcd(cmd.Flags(), &c)
	jsonFlag(cmd.Flags(), &asJSON)
	cmd.Flags().IntVar(&tried, "peers", 16, "how many peers to try, chosen at random where there are more")
	return cmd
}

// endpointsGiven reports whether it is known where etcd is, other than from
// tulled.
func endpointsGiven(cmd *cobra.Command) bool { return flags.Given(cmd.Flags(), "etcd-endpoints") }

// etcdFacts asks etcd what it can be asked without changing anything.
func etcdFacts(ctx context.Context, c etcd.Config, k known) doctor.Etcd {
	facts := doctor.Etcd{Asked: true}
	skew, err := c.Skew(ctx)
	facts.Skew, facts.SkewKnown = skew, err == nil
	if end := c.Until(); !end.IsZero() {
		facts.CertFile, facts.CertLeft = c.CertFile, time.Until(end)
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var last lastWarning
	s, err := etcd.Open(ctx, c, last.logger())
	if err == nil {
		defer s.Close()
		err = readEtcd(ctx, s, k, &facts)
	}
	switch {
	case err == nil:
	case errors.Is(err, etcd.ErrRefused):
		facts.Refused = err.Error()
	case last.text != "":
		facts.Silent = last.text
	default:
		facts.Silent = err.Error()
	}
	return facts
}

// readEtcd reads the network and this node's lease, and asks for the right to
// write. The error is why that could not be read.
func readEtcd(ctx context.Context, s *etcd.Store, k known, facts *doctor.Etcd) error {
	snapshot, err := s.Read(ctx)
	if err != nil {
		return err
	}
	if snapshot.NetworkErr != nil {
		facts.NoNetwork = snapshot.NetworkErr.Error()
	}
	if err := s.MayWrite(ctx); err != nil {
		facts.ReadOnly = err.Error()
	}
	key := k.key()
	if key == "" {
		return nil
	}
	own, ok := snapshot.Leases.Get(key)
	if !ok {
		facts.Lease = "this node's lease is not in etcd, so no other node sends anything to its pods: " + key
		return nil
	}
	left, granted, err := s.Left(ctx, own)
	if err == nil && own.ID != 0 && left < granted/3 {
		facts.Lease = fmt.Sprintf("this node's lease runs out in %s, and nobody renews it", time.Duration(left)*time.Second)
	}
	return nil
}
