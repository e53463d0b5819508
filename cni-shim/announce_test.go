package main

import "testing"

// A pod with an address and a MAC goes, another comes with the address and another
// MAC, and the host's old entry must not stand in the way.
func TestReusedAddressWorksAtOnce(t *testing.T) {
	t.Parallel()
	h := newHost(t, twoFamilies)
	list := h.conf("1.1.0", "")
	h.mustAdd(list, newPod(t, "stays")) // without a port the bridge would forget its neighbours
	for _, mac := range []string{"0a:00:00:00:00:01", "0a:00:00:00:00:02"} {
		p := newPod(t, "pod1")
		p.args = [][2]string{{"IP", "10.244.60.9,fd42:0:0:3::9"}, {"MAC", mac}}
		h.mustAdd(list, p)
		br, err := h.LinkByName("cni0")
		if err != nil {
			t.Fatal(err)
		}
		if mac == "0a:00:00:00:00:02" {
			// Before anything is sent: the announcement has put the new MAC there.
			for _, ip := range []string{"10.244.60.9", "fd42:0:0:3::9"} {
				neighs, err := h.NeighList(br.Attrs().Index, 0)
				if err != nil {
					t.Fatal(err)
				}
				found := ""
				for _, n := range neighs {
					if n.IP.String() == ip {
						found = n.HardwareAddr.String()
					}
				}
				if found != mac {
					t.Errorf("neighbour %s is %q, want %s", ip, found, mac)
				}
			}
		}
		echo(t, h.ns, p.ns, addrOf("10.244.60.9"))
		echo(t, h.ns, p.ns, addrOf("fd42:0:0:3::9"))
		if err := h.del(list, p); err != nil {
			t.Fatal(err)
		}
	}
}
