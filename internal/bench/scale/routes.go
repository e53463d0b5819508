package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/internal/lab"
)

// routes hears of every route that tulled adds on a node. A route is the last of
// a peer's rows.
type routes struct {
	sock *nl.NetlinkSocket

	mu    sync.Mutex // guards all following fields
	count int
	at    time.Time // of the last one
	err   error
	more  chan struct{} // closed and replaced when count changes
}

// protocol is tulled's mark on its routes.
const protocol = 116

// patience is how long a measurement may take.
const patience = 2 * time.Minute

func watchRoutes(node *lab.Host) (*routes, error) {
	r := &routes{more: make(chan struct{})}
	err := node.Net(func() (err error) {
		r.sock, err = nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_IPV4_ROUTE)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := r.sock.SetReceiveBufferSize(64<<20, true); err != nil {
		return nil, err
	}
	go r.listen()
	return r, nil
}

func (r *routes) close() { r.sock.Close() }

func (r *routes) listen() {
	for {
		msgs, _, err := r.sock.Receive()
		now := time.Now()
		added := 0
		for _, m := range msgs {
			if m.Header.Type == unix.RTM_NEWROUTE && nl.DeserializeRtMsg(m.Data).Protocol == protocol {
				added++
			}
		}
		r.mu.Lock()
		r.err = err
		if added > 0 || err != nil {
			r.count, r.at = r.count+added, now
			close(r.more)
			r.more = make(chan struct{})
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// reset forgets the routes heard of so far.
func (r *routes) reset() {
	r.mu.Lock()
	r.count = 0
	r.mu.Unlock()
}

// wait returns when n routes were added since the last reset.
func (r *routes) wait(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		r.mu.Lock()
		count, err, more := r.count, r.err, r.more
		r.mu.Unlock()
		switch {
		case err != nil:
			return errors.Join(errors.New("listen for routes"), err)
		case count >= n:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d routes were added: %w", count, n, ctx.Err())
		case <-more:
		}
	}
}

// last is when the last route was added.
func (r *routes) last() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}
