// Package flags holds the flags that tulled and tullectl share, and sets flags
// from the environment.
package flags

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"tulle/subnet/etcd"
)

// Env is what the names of all environment variables begin with. Both programs
// use the same, so that one file serves a host.
const Env = "TULLED_"

// StatusAddr is where tulled answers and tullectl asks, unless told otherwise.
const StatusAddr = "127.0.0.1:8471"

// SubnetFile and StateDir are where tulled writes and tullectl reads, unless told
// otherwise.
const (
	SubnetFile = "/run/tulle/subnet.env"
	StateDir   = "/var/lib/tulle"
)

// Etcd adds the flags that say where etcd is.
func Etcd(fs *pflag.FlagSet, c *etcd.Config) {
	fs.StringSliceVar(&c.Endpoints, "etcd-endpoints", []string{etcd.DefaultEndpoint}, "etcd's `URLs`, separated by commas")
	fs.StringVar(&c.Prefix, "etcd-prefix", etcd.DefaultPrefix, "what all keys of this network begin with")
	fs.StringVar(&c.CAFile, "etcd-cafile", "", "`file` with the certificates that etcd's must be signed by (default the system's)")
	fs.StringVar(&c.CertFile, "etcd-certfile", "", "`file` with our certificate, if etcd asks for one")
	fs.StringVar(&c.KeyFile, "etcd-keyfile", "", "`file` with the key of our certificate")
	fs.StringVar(&c.Username, "etcd-username", "", "etcd user, if etcd asks for one")
	fs.StringVar(&c.Password, "etcd-password", "", "its password; better given in the environment or in a file, where ps does not show it")
	fs.StringVar(&c.PasswordFile, "etcd-password-file", "", "`file` with its password")
}

// Fault is the error of a flag as a person wants to read it: of a number that is
// none, without the name of the function that found it.
func Fault(err error) error {
	var flag *pflag.InvalidValueError
	var number *strconv.NumError
	if errors.As(err, &flag) && errors.As(err, &number) {
		return fmt.Errorf("--%s: %q: %w", flag.GetFlag().Name, flag.GetValue(), number.Err)
	}
	return err
}

// FromEnv sets every flag that was not given on the command line and has its
// variable in the environment: TULLED_ETCD_ENDPOINTS for --etcd-endpoints. Where
// beginnings of names are given, it sets only flags with these. The error joins
// all faults.
func FromEnv(fs *pflag.FlagSet, only ...string) error {
	var faults []error
	fs.VisitAll(func(f *pflag.Flag) {
		name := variable(f.Name)
		value, ok := os.LookupEnv(name)
		begins := func(beginning string) bool { return strings.HasPrefix(f.Name, beginning) }
		if !ok || f.Changed || f.Annotations[argument] != nil || len(only) > 0 && !slices.ContainsFunc(only, begins) {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			faults = append(faults, fmt.Errorf("environment variable %s: %w", name, Fault(err)))
		}
	})
	return errors.Join(faults...)
}

// Unknown lists the variables in the environment that begin as ours do and set
// no flag.
func Unknown(fs *pflag.FlagSet) []string {
	known := map[string]bool{}
	fs.VisitAll(func(f *pflag.Flag) { known[variable(f.Name)] = f.Annotations[argument] == nil })
	var unknown []string
	for _, line := range os.Environ() {
		if name, _, _ := strings.Cut(line, "="); strings.HasPrefix(name, Env) && !known[name] {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// argument marks flags that are given on the command line alone.
const argument = "argument"

// OnlyArgument keeps a flag from being set by the environment: one that says what
// to do, and not how.
func OnlyArgument(fs *pflag.FlagSet, name string) {
	fs.Lookup(name).Annotations = map[string][]string{argument: {}}
}

func variable(flag string) string {
	return Env + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Given reports whether a flag was given on the command line or in the
// environment.
func Given(fs *pflag.FlagSet, name string) bool {
	_, there := os.LookupEnv(variable(name))
	return there || fs.Changed(name)
}
