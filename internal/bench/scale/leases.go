package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"tulle/internal/lab"
	"tulle/subnet"
)

// leases writes leases of nodes that do not exist into the lab's etcd.
type leases struct {
	underlay *lab.Host
	etcd     string // its URL
	client   *clientv3.Client
	lease    clientv3.LeaseID
}

const prefix = "/tulle/network/subnets/"

func newLeases(l *lab.Lab) (*leases, error) {
	s := &leases{underlay: l.Host("underlay"), etcd: l.EtcdURL()}
	var err error
	s.client, err = clientv3.New(clientv3.Config{
		Endpoints: []string{s.etcd}, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return s.underlay.Dial(ctx, "tcp", addr)
		})},
	})
	if err != nil {
		return nil, err
	}
	granted, err := s.client.Grant(context.Background(), 86400)
	if err != nil {
		return nil, err
	}
	s.lease = granted.ID
	return s, nil
}

func (s *leases) close() { s.client.Close() }

// atOnce is how many leases one transaction writes; etcd allows 128.
const atOnce = 100

// put writes the leases of the nodes from first up to end.
func (s *leases) put(ctx context.Context, first, end int) error {
	for first < end {
		var ops []clientv3.Op
		for ; first < end && len(ops) < atOnce; first++ {
			l := synthetic(first)
			ops = append(ops, clientv3.OpPut(prefix+l.Key(), l.Value(), clientv3.WithLease(s.lease)))
		}
		if _, err := s.client.Txn(ctx).Then(ops...).Commit(); err != nil {
			return err
		}
	}
	return nil
}

// remove deletes the lease of one node.
func (s *leases) remove(ctx context.Context, i int) error {
	_, err := s.client.Delete(ctx, prefix+synthetic(i).Key())
	return err
}

// synthetic is the lease of the i-th node that does not exist.
func synthetic(i int) subnet.Lease {
	l := subnet.Lease{Node: fmt.Sprintf("synthetic-%d", i), Type: subnet.VXLAN}
	l.Subnets[subnet.IPv4] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(130 + i>>8), byte(i), 0}), 24)
	l.Addrs[subnet.IPv4] = netip.AddrFrom4([4]byte{198, byte(18 + i>>16), byte(i >> 8), byte(i)})
	l.Data[subnet.IPv4] = fmt.Sprintf(`{"VNI":1,"VtepMAC":"0a:01:00:%02x:%02x:%02x"}`, byte(i>>16), byte(i>>8), byte(i))
	return l
}

// requests is how many requests etcd has had from others than this program's
// writes: all but transactions that put, as far as its metrics tell.
func (s *leases) requests(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.etcd+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := s.underlay.Client().Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	total := 0
	for scan := bufio.NewScanner(resp.Body); scan.Scan(); {
		if line := scan.Text(); strings.HasPrefix(line, "grpc_server_started_total{") {
			value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			if err != nil {
				return 0, err
			}
			total += int(value)
		}
	}
	return total, nil
}

// clear removes all leases.
func (s *leases) clear(ctx context.Context) error {
	_, err := s.client.Delete(ctx, prefix, clientv3.WithPrefix())
	return err
}
