package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"tulle/subnet"
)

// MTU is that of the pod's interface.
func (p *Pod) MTU() (int, error) {
	var mtu int
	err := p.Net(func() error {
		i, err := net.InterfaceByName(podIf)
		if err == nil {
			mtu = i.MTU
		}
		return err
	})
	return mtu, err
}

// checkFullSize sends a packet that fills the pod's MTU, with DF set, to a pod
// on another host, and wants it back whole.
func checkFullSize(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
	c := l.cast()
	mtu, err := c.near.MTU()
	if err != nil {
		return "", err
	}
	return unfragmented([]*Place{&c.near.Place, &c.far.Place, &c.near.host.Place, &c.far.host.Place}, func() (string, error) {
		if err := pingOnce(ctx, &c.near.Place, c.far.Addrs[f].Addr(), mtu); err != nil {
			return "", fmt.Errorf("%s to %s: expected %d bytes with DF to arrive, saw: %w", c.near.Name, c.far.Name, mtu, err)
		}
		return fmt.Sprintf("%d bytes there and back", mtu), nil
	})
}

// checkTooLarge wants the kernel to refuse one byte more: then the MTU is what
// limits a pod, and not a packet lost on the way.
func checkTooLarge(ctx context.Context, l *Lab, f subnet.Family) (string, error) {
	c := l.cast()
	mtu, err := c.near.MTU()
	if err != nil {
		return "", err
	}
	err = pingOnce(ctx, &c.near.Place, c.far.Addrs[f].Addr(), mtu+1)
	if errors.Is(err, unix.EMSGSIZE) {
		return fmt.Sprintf("%d bytes: %s", mtu+1, unix.EMSGSIZE), nil
	}
	if err == nil {
		err = errors.New("an answer")
	}
	return "", fmt.Errorf("%s to %s: expected %d bytes with DF to be refused with %q, saw: %w", c.near.Name, c.far.Name, mtu+1, unix.EMSGSIZE, err)
}

func pingOnce(ctx context.Context, from *Place, to netip.Addr, size int) error {
	socket, err := newPinger(ctx, from, subnet.FamilyOf(to), os.Getpid()&0xffff)
	if err != nil {
		return err
	}
	defer socket.close()
	_, err = socket.ping(ctx, to, size)
	return err
}
