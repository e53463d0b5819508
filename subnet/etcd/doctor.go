package etcd

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// MayWrite returns an error if etcd does not let us write leases, which is all
// that a node has to. It writes nothing: etcd checks the rights of a transaction
// before it looks at the condition, which never holds.
func (s *Store) MayWrite(ctx context.Context) error {
	return s.request(ctx, requestTimeout, "ask for the right to write", func(ctx context.Context) error {
		key := s.leaseKey("0.0.0.0-32")
		never := clientv3.Compare(clientv3.Version(key), "<", 0)
		_, err := s.client.Txn(ctx).If(never).Then(clientv3.OpPut(key, "")).Commit()
		return err
	})
}

// Until is when our certificate runs out; zero if there is none that can be used.
func (c Config) Until() time.Time {
	tlsConfig, err := c.tls()
	if err != nil || tlsConfig == nil {
		return time.Time{}
	}
	return ends(tlsConfig)
}

// Skew is how far this host's clock is ahead of that of the first endpoint that
// tells the time, which the header of an HTTP answer does to the second.
func (c Config) Skew(ctx context.Context) (time.Duration, error) {
	tlsConfig, err := c.tls()
	if err != nil {
		return 0, err
	}
	client := http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig, DisableKeepAlives: true}, Timeout: dialTimeout}
	err = fmt.Errorf("no endpoint speaks HTTP")
	for _, e := range c.Endpoints {
		var skew time.Duration
		if skew, err = skewOf(ctx, client, e); err == nil {
			return skew, nil
		}
	}
	return 0, err
}

func skewOf(ctx context.Context, client http.Client, endpoint string) (time.Duration, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return 0, err
	}
	if path, ok := strings.CutPrefix(u.Scheme, "unix"); ok {
		socket := u.Path
		u = &url.URL{Scheme: "http" + path, Host: "localhost"}
		client.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("version").String(), nil)
	if err != nil {
		return 0, err
	}
	asked := time.Now()
	answer, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	answer.Body.Close()
	theirs, err := http.ParseTime(answer.Header.Get("Date"))
	if err != nil {
		return 0, fmt.Errorf("%s tells no time: %w", endpoint, err)
	}
	// Their clock was cut to the second at some moment in between.
	between := asked.Add(time.Since(asked) / 2)
	return between.Sub(theirs.Add(time.Second / 2)), nil
}
