package probe

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

type passwordFile struct {
	t    *testing.T
	name string
}

func newPasswordFile(t *testing.T, text string) passwordFile {
	f := passwordFile{t, filepath.Join(t.TempDir(), "password")}
	f.write(text)
	return f
}

func (f passwordFile) write(text string) {
	f.t.Helper()
	if err := os.WriteFile(f.name, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// The order in which passwords are tried while the file and the server change, one after the other.
func TestPasswordIsTriedInTurn(t *testing.T) {
	wrong := refusal("WRONGPASS invalid username-password pair")
	f := newPasswordFile(t, "one\n")
	p := NewPassword("one", f.name)
	next := func(want policies.Secret) policies.Secret {
		t.Helper()
		got := p.Next()
		if got != want {
			t.Fatalf("Next gives %q, want %q", got.Reveal(), want.Reveal())
		}
		return got
	}
	p.Took(next("one"))
	for _, bad := range []string{"", "\n", "two\nlines\n", strings.Repeat("x", maxPassword+1)} {
		f.write(bad)
		next("one")
	}
	if err := os.Remove(f.name); err != nil {
		t.Fatal(err)
	}
	next("one")

	f.write("two") // the server still has one
	if !p.Met(next("two"), wrong) {
		t.Error("no other is worth a try, want the one that worked")
	}
	p.Took(next("one"))
	next("one")                     // as long as the file says what was refused
	if !p.Met(next("one"), wrong) { // the server has two now
		t.Error("no other is worth a try, want that of the file")
	}
	p.Took(next("two"))
	next("two")

	f.write("bad")
	if !p.Met(next("bad"), wrong) || !p.Met(next("two"), wrong) || !p.Met(next("bad"), wrong) {
		t.Error("with neither right, want both in turn")
	}
	f.write("three")
	p.Took(next("three"))
	if p.Met(next("three"), errors.New("i/o timeout")) || p.Met(next("three"), nil) {
		t.Error("what is no answer to AUTH speaks against the password")
	}
	next("three")
}

// A password that never worked is tried again as the file has it; without a file there is nothing else to try.
func TestPasswordWithoutAnother(t *testing.T) {
	p := NewPassword("only", "")
	if p.Met(p.Next(), refusal("WRONGPASS no")) || p.Next() != "only" {
		t.Error("another is tried where there is none")
	}
}

// A real server whose password changes before the file does, and after it: no probe of a node that is up fails.
func TestProbeFollowsAPassword(t *testing.T) {
	s := startServer(t, "--requirepass", "first")
	f := newPasswordFile(t, "first\n")
	p := s.prober(func(o *Options) { o.Password, o.PasswordFile = "first", f.name })
	up := func(when string) {
		t.Helper()
		if got := p.Probe(t.Context()); got.Reach != policies.ReachUp {
			t.Errorf("%s: %s: %s", when, got.Reach, got.Err)
		}
	}
	admin := s.C
	change := func(password string) {
		t.Helper()
		if err := admin.ConfigSet(t.Context(), "requirepass", password).Err(); err != nil {
			t.Fatal(err)
		}
		admin = s.Client(func(o *redis.Options) { o.Password = password })
	}
	drop := func() {
		t.Helper()
		if err := admin.ClientKillByFilter(t.Context(), "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
			t.Fatal(err)
		}
	}
	up("at first")
	f.write("second\n")
	up("the file is new, and the connection stands")
	drop()
	up("the file is new, the server is not yet")
	change("second")
	up("both are new, and the connection stands")
	drop()
	up("both are new")
	change("third")
	drop()
	if got := p.Probe(t.Context()); got.Reach != policies.ReachAuth || strings.Contains(got.Err, "second") {
		t.Errorf("the server is new, the file is not: %s %s, want auth", got.Reach, got.Err)
	}
	f.write("third\n")
	up("the file has followed")
	f.write("")
	drop()
	up("an empty file")
}
