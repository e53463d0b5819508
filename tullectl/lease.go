package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"tulle/subnet"
	"tulle/subnet/etcd"
)

func leaseCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:     "lease",
		Short:   "list, reserve or release the hosts' leases",
		Example: "  tullectl lease list\n  tullectl lease reserve 10.244.60.0/24\n  tullectl lease release 10.244.60.0/24",
	}, leaseListCommand("list", "tullectl lease list"), leaseReserveCommand(), leaseReleaseCommand())
}

// leasesCommand is lease list by the word that one looks for first.
func leasesCommand() *cobra.Command { return leaseListCommand("leases", "tullectl leases") }

// leaseRow is a lease as the commands tell it.
type leaseRow struct {
	Subnets  []string `json:"subnets"`
	Node     string   `json:"node,omitempty"`
	Address  string   `json:"address"`
	Backend  string   `json:"backend"`
	Reserved bool     `json:"reserved"`
	Awaited  bool     `json:"awaited,omitempty"` // reserved, and its host has not been there yet
	Left     int64    `json:"left,omitempty"`    // seconds
	Granted  int64    `json:"granted,omitempty"`
}

func rowOf(r subnet.Record) leaseRow {
	return leaseRow{Subnets: subnets(r.Lease), Node: r.Node, Address: r.AddrText(), Backend: r.Type, Reserved: r.ID == 0, Awaited: r.Awaited()}
}

// errNoLease says that nobody has a subnet.
var errNoLease = errors.New("nobody has a lease of that subnet; see tullectl lease list")

// findLease finds the lease of a subnet, given as a prefix or by its key.
func findLease(ctx context.Context, s *etcd.Store, text string) (subnet.Record, error) {
	snapshot, err := s.Read(ctx)
	if err != nil {
		return subnet.Record{}, err
	}
	for r := range snapshot.Leases.All() {
		if r.Key() == text || strings.Join(subnets(r.Lease), " ") == text || subnets(r.Lease)[0] == text {
			return r, nil
		}
	}
	return subnet.Record{}, fmt.Errorf("%s: %w", text, errNoLease)
}

func subnets(l subnet.Lease) []string {
	var texts []string
	for _, p := range l.Subnets {
		if p.IsValid() {
			texts = append(texts, p.String())
		}
	}
	return texts
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
