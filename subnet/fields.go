package subnet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// fields is a JSON object taken apart, so that each field can be read on its
// own and all faults be told at once.
type fields struct {
	path   string // of the object in the whole, with a trailing dot
	raw    map[string]json.RawMessage
	bad    map[string]bool
	faults []error
}

func parseFields(text []byte, path string) (*fields, error) {
	object := map[string]json.RawMessage{}
	if err := json.Unmarshal(text, &object); err != nil {
		what := strings.TrimSuffix(path, ".")
		if what == "" {
			what = "configuration"
		}
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line := 1 + bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte("\n"))
			return nil, fmt.Errorf("%s: line %d: not JSON: %w", what, line, err)
		}
		return nil, fmt.Errorf("%s: not a JSON object such as {\"Network\": \"10.244.0.0/16\"}", what)
	}
	f := &fields{path: path, raw: map[string]json.RawMessage{}, bad: map[string]bool{}}
	for _, key := range keys(text) {
		f.raw[strings.ToLower(key)] = object[key]
	}
	return f, nil
}

// keys are those of a JSON object in its own order. Where some differ in nothing
// but case, every node has to take the same one: the last, as flannel does.
func keys(object []byte) []string {
	var keys []string
	d := json.NewDecoder(bytes.NewReader(object))
	_, _ = d.Token() // the brace
	for d.More() {
		key, _ := d.Token()
		text, ok := key.(string)
		var value json.RawMessage
		if !ok || d.Decode(&value) != nil {
			break // it is null
		}
		keys = append(keys, text)
	}
	return keys
}

func (f *fields) fault(key, format string, args ...any) {
	f.bad[key] = true
	f.faults = append(f.faults, fmt.Errorf("%s%s: %s", f.path, key, fmt.Sprintf(format, args...)))
}

func (f *fields) faulty(key string) bool { return f.bad[key] }

// field reads one field. A field that is absent or null has the value absent.
func field[T any](f *fields, key string, absent T) T {
	raw, ok := f.raw[strings.ToLower(key)]
	if !ok || string(raw) == "null" {
		return absent
	}
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		f.fault(key, "%s is not %s", raw, kind(v))
		return absent
	}
	return v
}

func kind(v any) string {
	switch v.(type) {
	case bool:
		return "true or false"
	case int:
		return "a whole number"
	case netip.Prefix:
		return `a prefix such as "10.244.0.0/16"`
	case []string:
		return `a list of prefixes such as ["192.168.0.0/16"]`
	case netip.Addr:
		return `an address such as "10.244.1.0"`
	case string:
		return "a string"
	}
	return "an object"
}
