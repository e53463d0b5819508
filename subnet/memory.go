package subnet

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// Memory is what a node knew of its network when it could last ask: enough to
// carry on with while the store is away.
type Memory struct {
	Prefix  string    // of the store's keys; what is known of one network says nothing of another
	Self    Record    // this node's own lease
	Alive   time.Time // when the store last said that it keeps that lease
	TTL     time.Duration
	Network Network
	Leases  Leases // all that were known, our own among them
	Lost    bool   // another node has the lease by now
}

// Valid reports whether the store must still keep the node's lease at a time: it
// does so for TTL after Alive, or for ever if the lease is a reservation, unless it is
// known to be lost. A clock that was set back makes no lease older.
func (m Memory) Valid(now time.Time) bool {
	return !m.Lost && (m.Self.ID == 0 || now.Before(m.Alive.Add(m.TTL)))
}

// memoryHead is the first line of the file, and memoryLease each other.
type memoryHead struct {
	Version int             `json:"version"`
	Prefix  string          `json:"prefix"`
	Self    string          `json:"self"` // its key
	Alive   time.Time       `json:"alive"`
	TTL     string          `json:"ttl"`
	Network json.RawMessage `json:"network"`
	Leases  int             `json:"leases"` // how many lines follow
	Lost    bool            `json:"lost,omitempty"`
}

type memoryLease struct {
	Key      string          `json:"key"`
	Value    json.RawMessage `json:"value"`
	Created  int64           `json:"created"`
	Modified int64           `json:"modified"`
	ID       int64           `json:"id,omitempty"`
}

// memoryVersion is that of the file's form.
const memoryVersion = 1

// WriteFile puts the memory at path in one step.
func (m Memory) WriteFile(path string) error {
	err := replaceFile(path, 0o600, func(w io.Writer) error {
		err := json.NewEncoder(w).Encode(memoryHead{memoryVersion, m.Prefix, m.Self.Key(), m.Alive, m.TTL.String(), m.Network.JSON(), m.Leases.Len(), m.Lost})
		if err != nil {
			return err
		}
		// Line by line, and by hand: ten thousand leases are not to be gathered
		// in memory nor to keep a processor busy.
		for r := range m.Leases.All() {
			_, err := fmt.Fprintf(w, `{"key":%q,"value":%s,"created":%d,"modified":%d,"id":%d}`+"\n", r.Key(), r.Value(), r.Created, r.Modified, r.ID)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	return nil
}

// ReadMemory reads what WriteFile wrote. A file that is not whole is an error;
// it is fs.ErrNotExist while there is none.
func ReadMemory(path string) (Memory, error) {
	f, err := os.Open(path)
	if err != nil {
		return Memory{}, fmt.Errorf("read state file: %w", err)
	}
	defer f.Close()
	m, err := parseMemory(bufio.NewReader(f))
	if err != nil {
		return Memory{}, fmt.Errorf("read state file %s: %w", path, err)
	}
	return m, nil
}

func parseMemory(r io.Reader) (Memory, error) {
	d := json.NewDecoder(r)
	var head memoryHead
	if err := d.Decode(&head); err != nil {
		return Memory{}, fmt.Errorf("first line: %w", err)
	}
	if head.Version != memoryVersion {
		return Memory{}, fmt.Errorf("it has the form %d, and this version knows %d", head.Version, memoryVersion)
	}
	m := Memory{Prefix: head.Prefix, Alive: head.Alive, Lost: head.Lost}
	var err error
	if m.TTL, err = time.ParseDuration(head.TTL); err != nil {
		return Memory{}, fmt.Errorf("ttl: %w", err)
	}
	if m.Network, err = ParseNetwork(head.Network); err != nil {
		return Memory{}, fmt.Errorf("network: %w", err)
	}
	var records []Record
	seen := map[string]bool{}
	for i := range head.Leases {
		var line memoryLease
		if err := d.Decode(&line); err != nil {
			return Memory{}, fmt.Errorf("lease %d of %d: %w", i+1, head.Leases, err)
		}
		l, err := ParseLease(line.Key, line.Value)
		if err != nil {
			return Memory{}, fmt.Errorf("lease %d of %d: %w", i+1, head.Leases, err)
		}
		if seen[l.Key()] {
			return Memory{}, fmt.Errorf("lease %d of %d: %s is there twice", i+1, head.Leases, l.Key())
		}
		seen[l.Key()] = true
		records = append(records, Record{Lease: l, Created: line.Created, Modified: line.Modified, ID: line.ID})
	}
	m.Leases = NewLeases(records)
	var ok bool
	if m.Self, ok = m.Leases.Get(head.Self); !ok {
		return Memory{}, fmt.Errorf("this node's own lease %q is not among the leases", head.Self)
	}
	if !m.Network.Contains(m.Self.Lease) {
		return Memory{}, fmt.Errorf("this node's own lease %q is outside of the network", head.Self)
	}
	return m, nil
}
