package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// beside writes a file next to the config, for this user alone, and returns its name.
func (f *fleet) beside(name, text string) string {
	f.t.Helper()
	path := filepath.Join(filepath.Dir(f.file), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// A healer that takes only signed alarms from the bus: forged ones are ignored, those of publish with the key and of its own agent are taken,
// also while the key is exchanged.
func TestSignaturesAreRequired(t *testing.T) {
	t.Parallel()
	const oldKey, newKey = "bait-key-of-the-bus-old-0123456789", "bait-key-of-the-bus-new-0123456789"
	f := newFleet(t)
	bus, in := startServer(t), newPair(t)
	f.beside("hmac.keys", oldKey+"\n")
	f.bus, f.busMore = bus.url(), "hmac_key_file: hmac.keys\nrequire_signature: true"
	f.addPair("one", "", in)
	p, base := f.served(t)
	p.prints("[Self-healing service] The critical channel has been subscribed to.")

	forged := `{"instance":"one","metric":"used_memory_mb","value":1,"msg":"forged-%","id":"F%"}`
	c := dialPlain(t, bus.addr())
	for _, n := range []string{"1", "2"} {
		c.publish("redis:monitor:critical", strings.ReplaceAll(forged, "%", n))
	}
	publish := func(msg string, more ...string) {
		t.Helper()
		succeeds(t, append([]string{"publish", "--severity", "critical", "--instance", "one", "--metric", "used_memory_mb", "--value", "1", "--msg", msg}, more...)...)
	}
	publish("unsigned-3", "--bus", bus.url())
	publish("signed-4", "-c", f.file)
	healer := "[Self-healing service] Full memory detected"
	p.prints("one | refuted")
	if n := len(p.lines(healer)); n != 1 {
		t.Errorf("the healer took %d alarms, want the signed one alone", n)
	}
	if n := strings.Count(p.stderr.String(), "kind=unsigned"); n != 1 {
		t.Errorf("unsigned ones are logged %d times, want once", n)
	}
	p.prints("[On-duty DBA] !!! Critical alarm !!! one | forged-1")                                                         // people see all
	p.until("status counts them", func() bool { c := f.status().BusCounts; return c != nil && c.Ignored["unsigned"] == 4 }) // that of publish comes by the stream too
	if text := succeeds(t, "status", "-c", f.file); !strings.Contains(text, "alarms since the start: 4 messages ignored by the healer: unsigned\n") {
		t.Errorf("status says\n%s", text)
	}
	if _, text := request(t, http.DefaultClient, base+"/metrics", ""); !strings.Contains(text, `dcshealer_bus_ignored_messages_total{kind="unsigned"} 4`) || !strings.Contains(text, `dcshealer_bus_deaf_total{reader="healer"} 0`) {
		t.Error("metrics do not count them")
	}

	in.r.detach() // the agent of the same process is heard directly, and signs for others
	p.prints("one | plan (dry-run): reattach-replica")

	f.beside("hmac.keys", newKey+"\n"+oldKey+"\n")
	if out := succeeds(t, "config", "reload", "-c", f.file); !strings.Contains(out, "bus.hmac_keys: changed") || strings.Contains(out, "bait-key") {
		t.Errorf("config reload: %s", out)
	}
	publish("signed-5", "-c", f.file)
	p.until("the one with the new key is taken", func() bool { return len(p.lines(healer)) == 2 })
	f.beside("hmac.keys", newKey+"\n")
	succeeds(t, "config", "reload", "-c", f.file)
	p.stopsWell(sigterm)
	if all := p.stdout.String() + p.stderr.String(); strings.Contains(all, "bait-key-of-the-bus") {
		t.Error("a key is shown")
	}
}
