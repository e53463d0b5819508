package subnet

import (
	"encoding/json"
	"fmt"
	"os"
)

// Note is a lease as a node keeps it on disk, in the words of the store: a node
// that was away for so long that its lease ran out asks for the same again.
type Note struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// ReadNote reads what WriteFile wrote.
func ReadNote(path string) (Note, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Note{}, fmt.Errorf("read note of the lease: %w", err)
	}
	var n Note
	if err := json.Unmarshal(text, &n); err != nil {
		return Note{}, fmt.Errorf("read note of the lease %s: %w", path, err)
	}
	return n, nil
}

// WriteFile puts the note at path in one step.
func (n Note) WriteFile(path string) error {
	text, err := json.MarshalIndent(n, "", "\t")
	if err == nil {
		err = replaceFile(path, append(text, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write note of the lease: %w", err)
	}
	return nil
}
