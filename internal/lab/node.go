package lab

import (
	"context"
	"syscall"

	"tulle/subnet"
)

const (
	daemonName   = "tulled"
	daemonStatus = "http://127.0.0.1:8471"
	subnetFile   = "/run/tulle/subnet.env"
)

// StartDaemon starts tulled with its defaults, the lab's etcd and firewall, and these
// flags. It does not wait for the daemon to be ready.
func (h *Host) StartDaemon(ctx context.Context, flags ...string) error {
	args := []string{"tulled", "--etcd-endpoints=" + h.lab.EtcdEndpoints()}
	if h.lab.Firewall != "" {
		args = append(args, "--firewall="+h.lab.Firewall)
	}
	args = append(args, flags...)
	_, err := h.Keep(ctx, StartArgs{Name: daemonName, Args: args})
	return err
}

// WaitReady returns when /readyz of the daemon is green, or fails with the end
// of its log when the daemon ends before that.
func (h *Host) WaitReady(ctx context.Context) error {
	return h.waitAnswer(ctx, daemonName, &h.Place, daemonStatus+"/readyz")
}

// Ready asks the daemon once whether it is ready.
func (h *Host) Ready(ctx context.Context) error {
	_, err := get(ctx, h.Client(), daemonStatus+"/readyz")
	return err
}

// StopDaemon sends the daemon a signal and returns how it ended. SIGSTOP and
// SIGCONT are sent without waiting.
func (h *Host) StopDaemon(ctx context.Context, signal syscall.Signal) (Status, error) {
	return h.stop(ctx, daemonName, signal)
}

// RestartDaemon stops the daemon with a signal, starts it again with these
// flags and returns when it is ready.
func (h *Host) RestartDaemon(ctx context.Context, signal syscall.Signal, flags ...string) error {
	if _, err := h.StopDaemon(ctx, signal); err != nil {
		return err
	}
	if err := h.StartDaemon(ctx, flags...); err != nil {
		return err
	}
	return h.WaitReady(ctx)
}

// Subnet is what the node's subnet file says.
func (h *Host) Subnet() (subnet.File, error) { return subnet.ReadFile(h.Path(subnetFile)) }
