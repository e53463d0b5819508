// Package root guards tests that need privileges.
package root

import (
	"os"
	"testing"
)

// Require skips the test when it does not run as root. Where TULLE_REQUIRE_ROOT=1
// says that privileges are there, as in CI, it fails instead: a test that is
// skipped by mistake proves nothing.
func Require(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("TULLE_REQUIRE_ROOT") == "1" {
		t.Fatal("this test needs root, and TULLE_REQUIRE_ROOT=1 says that it must run")
	}
	t.Skip("needs root")
}
