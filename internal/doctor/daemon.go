package doctor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// daemon looks at what tulled says of itself.
func (e *examination) daemon() {
	if e.File != "" {
		e.add("subnet-file", "systemctl restart tulled, which writes it", "without the subnet file no pod starts: %s", e.File)
	}
	switch {
	case e.Hangs:
		e.add("tulled-silent", "see whether a rule drops what goes to 127.0.0.1; systemctl restart tulled; journalctl -u tulled", "tulled does not answer: %s", e.Silent)
		return
	case !e.Started:
		e.add("tulled-silent", "systemctl start tulled; journalctl -u tulled says why it ended", "tulled does not answer: %s", e.Silent)
		return
	}
	s := e.State
	if e.Unasked {
		e.add("tulled-disabled", "systemctl enable tulled", "tulled runs, and will not be started when this host boots")
	}
	if !s.Ready {
		e.add("tulled-waits", "journalctl -u tulled says what for; see Documentation/troubleshooting.md", "tulled is not ready: %s", s.Phase)
	}
	switch {
	case s.KernelErr != "":
		e.add("kernel-differs", "journalctl -u tulled", "tulled can't read the kernel's tables: %s", s.KernelErr)
	case len(s.Difference) > 0:
		mend := "tullectl status --rows; journalctl -u tulled says why the kernel refuses it"
		for _, row := range s.Difference {
			if words := strings.Fields(row); len(words) > 2 && words[0] == "add" && words[1] == "route" {
				mend = fmt.Sprintf("ip route show %s; if another program's route stands there, ip route del it", words[2])
				break
			}
		}
		e.add("kernel-differs", mend, "the kernel is not as wanted: %s", few(s.Difference))
	}
	for _, p := range s.Peers {
		name := p.Node
		if name == "" {
			name = strings.Join(p.Subnets, " ")
		}
		switch {
		case p.LeftOut == "":
		case strings.Contains(p.LeftOut, "is our own"):
			e.add("address-of-peer", "give each node its own address with --iface or --public-ip, or delete the lease if that node is gone: tullectl lease release "+p.Subnets[0],
				"%s claims what is this node's: %s", name, p.LeftOut)
		default:
			e.add("peer-left-out", "see Documentation/troubleshooting.md, \"A lease is left out\"; if that node is gone: tullectl lease release "+p.Subnets[0],
				"the pods of %s are not reached, because %s", name, p.LeftOut)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.BadKeys)) {
		e.add("key-no-lease", fmt.Sprintf("etcdctl del '%s/subnets/%s'", s.Etcd.Prefix, key), "a key among the leases is none: %s", s.BadKeys[key])
	}
	for _, trouble := range s.Troubles {
		e.add("trouble", "the text says what; see Documentation/running.md, \"Logs\"", "%s", trouble)
	}
}
