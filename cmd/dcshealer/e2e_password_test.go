package main

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// rotate gives a server another password and ends every connection that was made with the one before.
func (s *server) rotate(password string) {
	s.t.Helper()
	s.do("CONFIG", "SET", "requirepass", password)
	s.C = s.Client(func(o *redis.Options) { o.Password = password })
	s.c = s.C
	for _, kind := range []string{"normal", "pubsub"} {
		s.do("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
	}
}

// The passwords of an instance and of the bus change while it runs, and their files with them: it goes on watching, healing and telling.
func TestPasswordsChangeWithoutARestart(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.policies = eager
	m := startServer(t, "--requirepass", "first")
	r := startReplica(t, m, "--requirepass", "first", "--masterauth", "first")
	bus := startServer(t, "--requirepass", "first-bus")
	f.bus, f.busMore = bus.url(), "password_file: bus.pass"
	f.beside("one.pass", "first\n")
	f.beside("bus.pass", "first-bus\n")
	f.addPair("one", "live: [reattach-replica]\npassword_file: one.pass", pair{m, r})
	p := running(t, "-c", f.write())
	r.detach()
	until(t, "healed with the first password", r.linked)
	p.prints("[On-duty DBA] !!! Critical alarm !!! one | ")
	p.prints("[On-duty DBA] Resolved | one | ")

	f.beside("one.pass", "second\n")
	f.beside("bus.pass", "second-bus\n")
	m.rotate("second")
	r.rotate("second")
	r.do("CONFIG", "SET", "masterauth", "second")
	bus.rotate("second-bus")
	r.detach()
	until(t, "healed with the second password", r.linked)
	p.until("the DBA hears of it", func() bool { return len(p.lines("[On-duty DBA] !!! Critical alarm !!! one | ")) >= 2 })
	if strings.Contains(p.stdout.String(), "cannot be read") {
		t.Error("a node could not be read for a while")
	}
	p.stopsWell(sigterm)
}
