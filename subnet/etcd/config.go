package etcd

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Config says where etcd is and who we are to it.
type Config struct {
	Endpoints []string // URLs: http://, https:// or unix://
	Prefix    string   // all keys of this network begin with it
	CAFile    string   // certificates that etcd's must be signed by; empty: the system's; read again for each connection
	CertFile  string   // our certificate, with KeyFile; both read again for each connection
	KeyFile   string
	Username  string
	Password  string

	PasswordFile string // instead of Password
}

// Defaults of a Config.
const (
	DefaultEndpoint = "http://127.0.0.1:2379"
	DefaultPrefix   = "/tulle/network"
)

// prefixMost is how long a prefix may be: it marks the VXLAN device as ours, for
// which the kernel has 255 bytes.
const prefixMost = 200

// Times of the connection. An endpoint that died without a word (no FIN, no
// RST) is noticed after keepAliveTime + keepAliveTimeout.
const (
	dialTimeout      = 2 * time.Second  // to connect, so that a host's return is not missed for long
	greetTimeout     = 20 * time.Second // to agree on TLS and HTTP/2: several answers of a slow etcd
	loginTimeout     = 10 * time.Second // to check a password, and for the first renewal of a lease
	firstTimeout     = time.Second
	requestTimeout   = 5 * time.Second
	patientTimeout   = 20 * time.Second // for what is tried again and again
	keepAliveTime    = 10 * time.Second // etcd's server refuses more than one in 5 s
	keepAliveTimeout = 5 * time.Second
	reconnectFirst   = 100 * time.Millisecond
	reconnectMost    = time.Second
)

// Check returns all that is wrong with the Config, with the names of the flags.
func (c Config) Check() error {
	_, err := c.client()
	return err
}

func (c Config) client() (clientv3.Config, error) {
	var faults []error
	secure, plain := false, false
	if len(c.Endpoints) == 0 {
		faults = append(faults, errors.New("--etcd-endpoints: none given"))
	}
	for _, e := range c.Endpoints {
		if strings.Contains(e, "@") && !strings.HasPrefix(e, "unix") { // and not a word of it, for it would be in each message about etcd
			faults = append(faults, errors.New("--etcd-endpoints: a URL must not have a user name or a password; "+
				"give --etcd-username, and --etcd-password-file or TULLED_ETCD_PASSWORD"))
			continue
		}
		u, err := url.Parse(e)
		if err != nil || !slices.Contains([]string{"http", "https", "unix", "unixs"}, u.Scheme) {
			faults = append(faults, fmt.Errorf("--etcd-endpoints: %q is not a URL such as https://192.0.2.1:2379", e))
			continue
		}
		if isUnix := strings.HasPrefix(u.Scheme, "unix"); isUnix && u.Host+u.Path+u.Opaque == "" || !isUnix && u.Hostname() == "" {
			faults = append(faults, fmt.Errorf("--etcd-endpoints: %q is not a URL such as https://192.0.2.1:2379", e))
			continue
		} else if _, err := strconv.ParseUint(u.Port(), 10, 16); err != nil && !isUnix {
			faults = append(faults, fmt.Errorf("--etcd-endpoints: %q has no port that there can be; etcd's is 2379", e))
			continue
		}
		secure = secure || strings.HasSuffix(u.Scheme, "s")
		plain = plain || !strings.HasSuffix(u.Scheme, "s")
	}
	if secure && plain { // the client uses one of both for all
		faults = append(faults, errors.New("--etcd-endpoints: with TLS and without it side by side; give only one kind"))
	}
	if !strings.HasPrefix(c.Prefix, "/") || strings.HasSuffix(c.Prefix, "/") {
		faults = append(faults, fmt.Errorf("--etcd-prefix: %q must begin with a slash and not end with one", c.Prefix))
	}
	if len(c.Prefix) > prefixMost || strings.ContainsFunc(c.Prefix, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		faults = append(faults, fmt.Errorf("--etcd-prefix: %q must have at most %d letters, of those that can be printed", c.Prefix, prefixMost))
	}
	password, err := c.password()
	if err != nil {
		faults = append(faults, err)
	} else if (c.Username == "") != (password == "") {
		faults = append(faults, errors.New("--etcd-username and --etcd-password (or --etcd-password-file) must be given together"))
	}
	tlsConfig, err := c.tls()
	if err != nil {
		faults = append(faults, err)
	}
	if tlsConfig != nil && !secure && len(faults) == 0 {
		faults = append(faults, errors.New("--etcd-endpoints: certificates are given but no endpoint begins with https://"))
	}
	if secure && tlsConfig == nil {
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12} // the system's certificates
	}
	return clientv3.Config{
		Endpoints:            c.Endpoints,
		TLS:                  tlsConfig,
		Username:             c.Username,
		Password:             password,
		DialTimeout:          loginTimeout,
		DialKeepAliveTime:    keepAliveTime,
		DialKeepAliveTimeout: keepAliveTimeout,
		PermitWithoutStream:  true,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			// gRPC itself would come to wait two minutes between tries.
			Backoff:           backoff.Config{BaseDelay: reconnectFirst, Multiplier: 1.6, Jitter: 0.2, MaxDelay: reconnectMost},
			MinConnectTimeout: greetTimeout,
		})},
		Logger: zap.NewNop(), // it repeats itself while etcd is away; we tell once
	}, errors.Join(faults...)
}

func (c Config) password() (string, error) {
	if c.PasswordFile == "" {
		return c.Password, nil
	}
	if c.Password != "" {
		return "", errors.New("--etcd-password and --etcd-password-file: give only one")
	}
	text, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("--etcd-password-file: %w", err)
	}
	return strings.TrimRight(string(text), "\r\n"), nil
}
