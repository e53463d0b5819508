package subnet

import (
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func example() File {
	return File{
		Networks: [2]netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd42::/48")},
		Subnets:  [2]netip.Prefix{netip.MustParsePrefix("10.244.60.1/24"), netip.MustParsePrefix("fd42:0:0:3::1/64")},
		MTU:      1450,
		Masq:     true,
	}
}

func TestFileText(t *testing.T) {
	t.Parallel()
	want := "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.60.1/24\nFLANNEL_IPV6_NETWORK=fd42::/48\nFLANNEL_IPV6_SUBNET=fd42:0:0:3::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
	if got := example().String(); got != want {
		t.Errorf("String() =\n%swant\n%s", got, want)
	}
	four := example()
	four.Networks[IPv6], four.Subnets[IPv6], four.Masq = netip.Prefix{}, netip.Prefix{}, false
	want = "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.60.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"
	if got := four.String(); got != want {
		t.Errorf("String() =\n%swant\n%s", got, want)
	}
}

func TestParseFileTellsAllFaults(t *testing.T) {
	t.Parallel()
	_, err := ParseFile("FLANNEL_NETWORK=x\nFLANNEL_IPV6_SUBNET=fd42::1/64\nFLANNEL_MTU=0\nFLANNEL_IPMASQ=perhaps\n")
	for _, want := range []string{"FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK and FLANNEL_IPV6_SUBNET", "FLANNEL_MTU", "FLANNEL_IPMASQ"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseFile = %v, want it to name %s", err, want)
		}
	}
	if _, err := ParseFile("FLANNEL_MTU=1450\n"); err == nil || !strings.Contains(err.Error(), "FLANNEL_SUBNET") {
		t.Errorf("ParseFile without a subnet = %v, want it to name FLANNEL_SUBNET", err)
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add(example().String())
	f.Add("# comment\r\nFLANNEL_SUBNET=\"10.244.60.1/24\"\r\nFLANNEL_NETWORK=10.0.0.0/8\nFLANNEL_MTU=1450")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := ParseFile(text)
		if err != nil {
			return
		}
		if again, err := ParseFile(file.String()); err != nil || again != file {
			t.Errorf("ParseFile(%q) = %+v, %v, want %+v", file.String(), again, err, file)
		}
	})
}

func TestWriteFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "run", "tulle", "subnet.env")
	if _, err := ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFile of no file = %v, want %v", err, fs.ErrNotExist)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", []byte("half a fi"), 0o600); err != nil { // of an attempt that crashed
		t.Fatal(err)
	}
	if err := example().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFile(path); err != nil || got != example() {
		t.Errorf("ReadFile = %+v, %v, want %+v", got, err, example())
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("file is %v, %v, want mode 0644", info.Mode(), err)
	}
	old := time.Unix(1000, 0)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	if err := example().WriteFile(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || !info.ModTime().Equal(old) {
		t.Errorf("a file that was right already was written again")
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
