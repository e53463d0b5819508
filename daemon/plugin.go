package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"tulle/internal/operation"
)

// pluginPeriod is how often the plugin's socket is looked for: somebody may remove
// it, and the plugin would tell nobody.
const pluginPeriod = 5 * time.Second

// hearPlugin counts the operations that the CNI plugin tells of, until ctx ends.
func (d *daemon) hearPlugin(ctx context.Context) error {
	path := operation.Socket(d.config.SubnetFile)
	for ctx.Err() == nil {
		err := d.hearAt(ctx, path)
		d.mu.Lock()
		d.badSocket.set(faultOf(path, err))
		d.mu.Unlock()
		if err == nil {
			continue // it was removed
		}
		select {
		case <-ctx.Done():
		case <-time.After(pluginPeriod):
		}
	}
	return ctx.Err()
}

// hearAt makes the socket and returns when it is no longer there.
func (d *daemon) hearAt(ctx context.Context, path string) error {
	conn, err := listenPlugin(path)
	if err != nil {
		return err
	}
	defer conn.Close()
	made, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("look at the socket that was just made: %w", err)
	}
	defer func() {
		if still(path, made) {
			_ = os.Remove(path) // what stays does no harm
		}
	}()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	d.mu.Lock()
	d.badSocket.set(nil)
	d.mu.Unlock()
	buf := make([]byte, operation.Most)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(pluginPeriod)); err != nil {
			return fmt.Errorf("set a deadline: %w", err)
		}
		n, err := conn.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			if !still(path, made) {
				return nil
			}
		case err != nil:
			return fmt.Errorf("read: %w", err)
		default:
			// What is none is of somebody else, and nothing to talk about.
			if o, err := operation.Parse(string(buf[:n])); err == nil {
				d.metrics.operation(o)
			}
		}
	}
}

// listenPlugin makes the socket in place of one that an earlier daemon left.
func listenPlugin(path string) (*net.UnixConn, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if old, err := os.Lstat(path); err == nil && old.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// still reports whether the path leads to what was made there.
func still(path string, made os.FileInfo) bool {
	now, err := os.Lstat(path)
	return err == nil && os.SameFile(now, made)
}
