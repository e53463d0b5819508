// Package version tells which build a program is.
package version

import "runtime/debug"

// Set by the linker; see the Makefile.
var (
	version = ""
	commit  = ""
)

// String is the version and the commit, such as "0.1.0 (commit 1a2b3c4)".
// A binary that was built without the Makefile tells what Go recorded of it.
func String() string {
	v, c := Version(), Commit()
	if c == "" {
		return v
	}
	return v + " (commit " + c + ")"
}

// Version is the release, or "devel".
func Version() string {
	if version == "" {
		return "devel"
	}
	return version
}

// Commit is the abbreviated commit, or empty where it is not known.
func Commit() string {
	if commit != "" {
		return commit
	}
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value[:min(12, len(s.Value))]
		}
	}
	return ""
}
