// Package redistest runs real redis-server processes for tests, and for tests only: no other code imports it.
package redistest

import (
	"net"
	"os"
	"testing"
	"time"
)

// Patience bounds every wait: the machine may be busy with others. Nothing waits for it where all is well.
const Patience = 60 * time.Second

// Eventually polls until the condition holds, and fails the test when it does not within Patience.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", Patience, what)
		}
	}
}

// FreePort is a port of 127.0.0.1 that nobody listens on now; another process may take it at any time.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Missing ends a test for which the machine lacks something: it skips, loudly, and fails with DCSHEALER_TEST_REQUIRE=1, which
// a build sets that promises to test everything. What names the thing and how to get it.
func Missing(t testing.TB, what any) {
	t.Helper()
	if os.Getenv("DCSHEALER_TEST_REQUIRE") == "1" {
		t.Fatal("DCSHEALER_TEST_REQUIRE=1, and", what)
	}
	t.Skip("SKIPPED, NOT TESTED:", what)
}
