package subnet

// Snapshot is the Network and all leases at one revision of the store. It never
// changes once it is made.
type Snapshot struct {
	Rev     int64
	Network Network
	// NetworkErr says why Network is zero: there is none, or it is not valid.
	NetworkErr error
	Leases     Leases
	// Faults names each key that is no lease, with the reason.
	Faults map[string]error
}
