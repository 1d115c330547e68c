package remediation

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// The password of a replica's server and its file change while it is watched: the repair that follows needs no restart, in whatever order
// the two change.
func TestAPasswordThatChangesStopsNoRepair(t *testing.T) {
	t.Parallel()
	for name, fileFirst := range map[string]bool{"the file is new and the server is not yet": true, "both are new": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, x := pair(t)
			file := filepath.Join(t.TempDir(), "password")
			write := func(password string) {
				if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			write("old")
			for _, s := range []*server{m, x} {
				s.do("ACL", "SETUSER", "healer", "on", ">old", "~*", "&*", "+@all")
			}
			in := instance(prod1, reattachLive, m, x)
			in.Username, in.Password, in.PasswordFile = "healer", "old", file
			r := newRig(t, fleet(in), "").start()
			r.alarm(prod1, replication)
			r.waitLine("refuted")
			write("new")
			if !fileFirst {
				for _, s := range []*server{m, x} {
					s.do("ACL", "SETUSER", "healer", "resetpass", ">new")
					if err := s.c.ClientKillByFilter(t.Context(), "USER", "healer").Err(); err != nil && err != redis.Nil {
						t.Fatal(err)
					}
				}
			}
			x.promote()
			r.alarm(prod1, replication)
			r.record(prod1, replication, policies.OutcomeSucceeded)
			r.sent(prod1, 1)
			if n := r.lines.count("WRONGPASS"); n > 0 {
				t.Errorf("%d lines tell of a refused password", n)
			}
			r.whole()
		})
	}
}
