package kernel

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"tulle/backend"
)

// dumpLinks adds the VXLAN devices that have our alias and whatever has a name
// that we want, and notes their indexes.
func (k *Kernel) dumpLinks(have, want backend.State, index map[int]string) error {
	all, err := k.vxlans()
	if err != nil {
		return err
	}
	name := k.name()
	for _, v := range all {
		wanted := want[backend.Link{Name: v.Name}.Key()] != nil
		if wanted || v.Alias == k.config.Owner {
			have.Add(entry(v, name))
		}
		if wanted && !k.isSibling(v.Alias) || v.Alias == k.config.Owner {
			index[v.Index] = v.Name
		}
	}
	for key := range want {
		if key.Kind != backend.KindLink || have[key] != nil {
			continue
		}
		link, err := k.links.LinkByName(key.Name)
		switch {
		case errors.As(err, &netlink.LinkNotFoundError{}):
		case err != nil:
			return err
		default:
			have.Add(backend.Link{Name: key.Name, Foreign: link.Type()})
		}
	}
	return nil
}

// vxlans lists all VXLAN devices.
func (k *Kernel) vxlans() ([]*netlink.Vxlan, error) {
	kind := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	kind.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("vxlan"))
	var found []*netlink.Vxlan
	err := k.conn.dump(unix.RTM_GETLINK, nl.NewIfInfomsg(unix.AF_UNSPEC), func() { found = nil }, func(m syscall.NetlinkMessage) error {
		if len(m.Data) < unix.SizeofIfInfomsg {
			return unix.EBADMSG
		}
		link, err := netlink.LinkDeserialize((*unix.NlMsghdr)(&m.Header), m.Data)
		if v, ok := link.(*netlink.Vxlan); ok {
			found = append(found, v)
		}
		return err
	}, kind)
	return found, err
}

func entry(v *netlink.Vxlan, name func(int) string) backend.Link {
	l := backend.Link{
		Name: v.Name, Owner: v.Alias, Up: v.Flags&net.FlagUp != 0, MTU: v.MTU,
		VNI: v.VxlanId, Port: v.Port, Learning: v.Learning, GBP: v.GBP,
	}
	if len(v.HardwareAddr) == len(l.MAC) {
		l.MAC = backend.MAC(v.HardwareAddr)
	}
	if a, ok := netip.AddrFromSlice(v.SrcAddr); ok {
		l.Local = a.Unmap()
	}
	if v.VtepDevIndex != 0 {
		l.Underlay = name(v.VtepDevIndex)
	}
	if v.MasterIndex != 0 {
		l.Master = name(v.MasterIndex)
	}
	if v.FlowBased || v.Group != nil {
		l.Foreign = "vxlan external or with a group"
	}
	return l
}

func (k *Kernel) changeLink(c backend.Change) error {
	if c.Want == nil {
		return k.deleteLink(c.Key().Name)
	}
	want := c.Want.(backend.Link)
	if c.Have != nil {
		have := c.Have.(backend.Link)
		if k.isSibling(have.Owner) {
			return fmt.Errorf("it belongs to another network of this host (%q); choose another VNI in the configuration of one of the two, "+
				"or, if that one is given up here, remove the device with `ip link delete %s`", have.Owner, have.Name)
		}
		if have.Changeable(want) {
			return k.setLink(have, want)
		}
	}
	underlay, err := k.links.LinkByName(want.Underlay)
	if err != nil { // the device that is there serves until another can be made
		return fmt.Errorf("underlay device %s: %w", want.Underlay, err)
	}
	if c.Have != nil {
		if err := k.deleteLink(want.Name); err != nil {
			return err
		}
	}
	return k.addLink(want, underlay.Attrs().Index)
}

// isSibling reports whether a device's alias is that of another daemon of our kind.
func (k *Kernel) isSibling(alias string) bool {
	kind, _, _ := strings.Cut(k.config.Owner, " ")
	return alias != k.config.Owner && strings.HasPrefix(alias, kind+" ")
}

func (k *Kernel) deleteLink(name string) error {
	link, err := k.links.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	return k.links.LinkDel(link)
}

func (k *Kernel) addLink(want backend.Link, underlay int) error {
	attrs := netlink.NewLinkAttrs()
	// The address is given now: udev may choose another for a device made
	// without one, a few milliseconds later.
	attrs.Name, attrs.HardwareAddr, attrs.MTU = want.Name, want.MAC[:], want.MTU
	err := k.links.LinkAdd(&netlink.Vxlan{
		LinkAttrs: attrs, VxlanId: want.VNI, Port: want.Port, SrcAddr: want.Local.AsSlice(),
		VtepDevIndex: underlay, Learning: want.Learning, GBP: want.GBP,
	})
	if errors.Is(err, unix.EEXIST) {
		return k.taken(want, underlay, err)
	}
	if err != nil {
		return err
	}
	have := want
	have.Owner, have.Up = "", false
	return errors.Join(k.prepare(want.Name), k.setLink(have, want))
}

// taken says which device keeps us from making ours, or takes it away if it is
// ours as well.
func (k *Kernel) taken(want backend.Link, underlay int, err error) error {
	all, listErr := k.vxlans()
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	for _, v := range all {
		if v.VxlanId == want.VNI && v.Port == want.Port {
			if v.Alias == k.config.Owner { // ours, which somebody gave another name
				if err := k.links.LinkDel(v); err != nil {
					return err
				}
				return k.addLink(want, underlay)
			}
			return fmt.Errorf("device %s uses VNI %d and UDP port %d already; stop what owns it and remove it with `ip link delete %s`, "+
				"or choose another VNI or port in the network configuration: %w", v.Name, v.VxlanId, v.Port, v.Name, err)
		}
	}
	if _, nameErr := k.links.LinkByName(want.Name); errors.As(nameErr, &netlink.LinkNotFoundError{}) {
		// Wherever it was moved to, it carries packets of the namespace that it was made in.
		return fmt.Errorf("a device with VNI %d and UDP port %d is in another network namespace, to which it was moved from here; "+
			"remove it there, or choose another VNI or port in the network configuration: %w", want.VNI, want.Port, err)
	}
	return err
}

// setLink changes what can be changed while the device exists.
func (k *Kernel) setLink(have, want backend.Link) error {
	link, err := k.links.LinkByName(want.Name)
	if err != nil {
		return err
	}
	var errs []error
	set := func(what string, differs bool, do func() error) {
		if !differs {
			return
		}
		if err := do(); err != nil {
			errs = append(errs, fmt.Errorf("set %s: %w", what, err))
		}
	}
	set("alias", have.Owner != want.Owner, func() error { return k.links.LinkSetAlias(link, want.Owner) })
	set("address", have.MAC != want.MAC, func() error { return k.links.LinkSetHardwareAddr(link, want.MAC[:]) })
	set("no master", have.Master != want.Master, func() error { return k.links.LinkSetNoMaster(link) })
	set("mtu", have.MTU != want.MTU, func() error { return k.links.LinkSetMTU(link, want.MTU) })
	set("up", have.Up != want.Up, func() error {
		err := k.links.LinkSetUp(link)
		if errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("something else uses UDP port %d; stop it, or choose another port in the network configuration: %w", want.Port, err)
		}
		return err
	})
	return errors.Join(errs...)
}
