package kernel

import (
	"errors"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// nftables is the conversation with nftables. It is not safe for use by several
// goroutines at once.
type nftables struct {
	conn *conn // nil: the kernel has no netfilter
	seq  uint32
}

// openNFT leaves out what is not there.
func openNFT() (*nftables, error) {
	n := &nftables{seq: 1 << 31} // the dumps of the same socket have small numbers
	conn, err := dial(unix.NETLINK_NETFILTER)
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return n, nil
	case err != nil:
		return nil, err
	}
	n.conn = conn
	return n, nil
}

func (n *nftables) close() {
	if n.conn != nil {
		n.conn.close()
	}
}

func (n *nftables) begin(proto nfgenmsg) *transaction { return newTransaction(n.seq, proto) }

func (n *nftables) commit(t *transaction) error {
	err := n.conn.commit(t)
	n.seq = max(t.seq, 1<<31)
	return err
}

// get asks for one thing, and returns nil if it is not there.
func (c *conn) get(kind int, proto nfgenmsg, ref body) (body, error) {
	req := nl.NewNetlinkRequest(nftMessage(kind), unix.NLM_F_ACK)
	req.AddData(proto)
	req.AddData(ref)
	var got body
	err := c.dumpOnce(req, func(m syscall.NetlinkMessage) error {
		got = append(body{}, nftBody(m)...)
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	return got, err
}
