package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// object is a JSON object taken apart, so that each field can be read on its
// own and all faults be told at once.
type object struct {
	path   string // of the object in the whole, with a trailing dot
	fields map[string]json.RawMessage
	known  []string
	faults *faults // shared by all objects of one text
}

// faults are what is wrong with a configuration.
type faults struct {
	texts   []string
	unknown int // how many of them are fields that nobody knows
}

func (f *faults) add(field, format string, args ...any) {
	f.texts = append(f.texts, field+": "+fmt.Sprintf(format, args...))
}

// parseObject takes an object apart. What is no object is a fault, and then the
// object has no fields.
func parseObject(text json.RawMessage, path string, f *faults) *object {
	o := &object{path: path, faults: f}
	if err := json.Unmarshal(text, &o.fields); err != nil || o.fields == nil {
		what := strings.TrimSuffix(path, ".")
		if what == "" {
			what = "network configuration"
		}
		f.add(what, "%s is not a JSON object", short(text))
		o.fields = nil
	}
	return o
}

func (o *object) fault(key, format string, args ...any) {
	o.faults.add(o.path+key, format, args...)
}

// has reports whether a field is given, and not as null.
func (o *object) has(key string) bool {
	raw, ok := o.fields[key]
	return ok && string(raw) != "null"
}

// anyCase lets the keys be written in whatever case. It is for what runtimes write:
// containerd says HostPort where the conventions say hostPort.
func (o *object) anyCase(keys ...string) {
	for _, key := range keys {
		for _, written := range slices.Sorted(maps.Keys(o.fields)) {
			if _, exact := o.fields[key]; !exact && strings.EqualFold(written, key) {
				o.fields[key] = o.fields[written]
				delete(o.fields, written)
			}
		}
	}
}

// raw is a field's text. Reading a field makes it known.
func (o *object) raw(key string) json.RawMessage {
	o.known = append(o.known, key)
	if !o.has(key) {
		return nil
	}
	return o.fields[key]
}

// object is a field that is itself an object. One that is absent has no fields.
func (o *object) object(key string) *object {
	raw := o.raw(key)
	if raw == nil {
		raw = json.RawMessage("{}")
	}
	return parseObject(raw, o.path+key+".", o.faults)
}

// field reads one field. One that is absent, null or faulty has the value absent.
func field[T any](o *object, key string, absent T) T {
	raw := o.raw(key)
	if raw == nil {
		return absent
	}
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		o.fault(key, "%s is not %s", short(raw), kind(v))
		return absent
	}
	return v
}

// close tells the fields that were given and that nobody read. Those that begin
// with cni.dev/ belong to the runtime, now and in later versions.
func (o *object) close() {
	slices.Sort(o.known)
	for _, key := range slices.Sorted(maps.Keys(o.fields)) {
		if !slices.Contains(o.known, key) && !strings.HasPrefix(key, "cni.dev/") {
			o.fault(key, "%s is not supported; the fields here are %s", short(o.fields[key]), strings.Join(o.known, ", "))
			o.faults.unknown++
		}
	}
}

func kind(v any) string {
	switch v.(type) {
	case bool, *bool:
		return "true or false"
	case int:
		return "a whole number"
	case string:
		return "a string"
	case []string:
		return "a list of strings"
	case netip.Prefix:
		return `a prefix such as "10.96.0.0/12"`
	case netip.Addr:
		return `an address such as "10.244.1.1"`
	}
	return "a list of objects"
}

// short is as much of a value as helps to recognise it.
func short(raw json.RawMessage) string {
	const most = 60
	if len(raw) <= most {
		return string(raw)
	}
	return strings.ToValidUTF8(string(raw[:most]), "") + "..."
}
