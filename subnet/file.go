package subnet

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// File is the subnet file: what the daemon tells the programs of its host about
// the node's subnet. Names and order of its lines are flannel's, so that
// programs which read flannel's file read ours.
type File struct {
	Networks [2]netip.Prefix // all pods of the cluster, by Family
	Subnets  [2]netip.Prefix // this node's, as its bridge's address and length
	MTU      int             // of pods and bridge
	Masq     bool            // the daemon masquerades what leaves the cluster
}

var fileNames = [2]struct{ network, subnet string }{
	{"FLANNEL_NETWORK", "FLANNEL_SUBNET"},
	{"FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET"},
}

const (
	fileMTU  = "FLANNEL_MTU"
	fileMasq = "FLANNEL_IPMASQ"
)

// String is the file's text.
func (f File) String() string {
	var b strings.Builder
	for i, names := range fileNames {
		if f.Subnets[i].IsValid() {
			fmt.Fprintf(&b, "%s=%s\n%s=%s\n", names.network, f.Networks[i], names.subnet, f.Subnets[i])
		}
	}
	fmt.Fprintf(&b, "%s=%d\n%s=%t\n", fileMTU, f.MTU, fileMasq, f.Masq)
	return b.String()
}

// ParseFile reads what String wrote. Unknown lines are ignored; the error joins
// all faults.
func ParseFile(text string) (File, error) {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[key] = strings.Trim(value, `"`)
		}
	}
	var f File
	var faults []error
	prefix := func(key string, family Family) netip.Prefix {
		text, ok := values[key]
		if !ok {
			return netip.Prefix{}
		}
		p, err := netip.ParsePrefix(text)
		if err != nil || FamilyOf(p.Addr()) != family {
			faults = append(faults, fmt.Errorf("%s: %q is not an %s prefix", key, text, family))
			return netip.Prefix{}
		}
		return p
	}
	for i, names := range fileNames {
		f.Networks[i] = prefix(names.network, Family(i))
		f.Subnets[i] = prefix(names.subnet, Family(i))
		if f.Networks[i].IsValid() != f.Subnets[i].IsValid() {
			faults = append(faults, fmt.Errorf("%s and %s must be given together", names.network, names.subnet))
		}
	}
	var err error
	if f.MTU, err = strconv.Atoi(values[fileMTU]); err != nil || f.MTU < 1 || f.MTU > 65535 {
		faults = append(faults, fmt.Errorf("%s: %q is not a number from 1 to 65535", fileMTU, values[fileMTU]))
	}
	if text, ok := values[fileMasq]; ok {
		if f.Masq, err = strconv.ParseBool(text); err != nil {
			faults = append(faults, fmt.Errorf("%s: %q is not true or false", fileMasq, text))
		}
	}
	if len(faults) == 0 && !f.Subnets[IPv4].IsValid() && !f.Subnets[IPv6].IsValid() {
		faults = append(faults, fmt.Errorf("%s and %s are missing", fileNames[IPv4].subnet, fileNames[IPv6].subnet))
	}
	if len(faults) > 0 {
		return File{}, errors.Join(faults...)
	}
	return f, nil
}

// ReadFile reads the subnet file at path. The error is fs.ErrNotExist while no
// daemon has written one.
func ReadFile(path string) (File, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return File{}, fmt.Errorf("read subnet file: %w", err)
	}
	f, err := ParseFile(string(text))
	if err != nil {
		return File{}, fmt.Errorf("read subnet file %s: %w", path, err)
	}
	return f, nil
}

// WriteFile puts the file at path in one step: a reader sees the old text or
// the new one. A file that holds the text already is not touched.
func (f File) WriteFile(path string) error {
	if old, err := os.ReadFile(path); err == nil && string(old) == f.String() {
		return nil
	}
	err := replaceFile(path, 0o644, func(w io.Writer) error {
		_, err := io.WriteString(w, f.String())
		return err
	})
	if err != nil {
		return fmt.Errorf("write subnet file: %w", err)
	}
	return nil
}

// replaceFile writes a file beside path and renames it there. What a crash left
// of an earlier attempt is overwritten.
func replaceFile(path string, mode fs.FileMode, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp := path + ".new"
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	err = errors.Join(write(w), w.Flush(), f.Chmod(mode), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return nil
}
