package subnet

// Snapshot is the Network and all leases at one revision of the store. Whoever
// receives a Snapshot must not change it.
type Snapshot struct {
	Rev     int64
	Network Network
	// NetworkErr says why Network is zero: there is none, or it is not valid.
	NetworkErr error
	// Leases are in order of creation: where two contradict each other, the
	// earlier one was there first.
	Leases []Lease
	// Faults names each key that is no lease, by its key.
	Faults map[string]error
}

// ByNode returns the lease of the node with that name.
func (s Snapshot) ByNode(node string) (Lease, bool) {
	return s.find(func(l Lease) bool { return node != "" && l.Node == node })
}

// ByAddr returns the first lease that announces one of the addresses of a.
func (s Snapshot) ByAddr(a Lease) (Lease, bool) {
	return s.find(func(l Lease) bool {
		for f := range l.Addrs {
			if l.Addrs[f].IsValid() && l.Addrs[f] == a.Addrs[f] {
				return true
			}
		}
		return false
	})
}

// ByKey returns the lease with that key.
func (s Snapshot) ByKey(key string) (Lease, bool) {
	return s.find(func(l Lease) bool { return l.Key() == key })
}

func (s Snapshot) find(ok func(Lease) bool) (Lease, bool) {
	for _, l := range s.Leases {
		if ok(l) {
			return l, true
		}
	}
	return Lease{}, false
}
