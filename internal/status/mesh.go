package status

import "time"

// Reach is how a node reaches a peer through the overlay.
type Reach struct {
	Verdict string    `json:"verdict"` // good, silent, blocked, mtu-hole or checksum
	Meaning string    `json:"meaning"` // of the verdict, and what to look at
	Sent    int       `json:"sent"`    // of the last packets, 64 at most
	Lost    int       `json:"lost"`    // of those
	RTT     float64   `json:"rttSeconds"`
	At      time.Time `json:"at"` // of the last look
}

// Reached is what one node tells of all its peers that it has looked at.
type Reached struct {
	Node   string           `json:"node"`
	Subnet string           `json:"subnet"`
	Peers  map[string]Reach `json:"peers"` // by subnet
	// Error says why nothing is known of what this node reaches.
	Error string `json:"error,omitempty"`
}

// Mesh is what each node tells, sorted by subnet.
type Mesh struct {
	Nodes []Reached `json:"nodes"`
}
