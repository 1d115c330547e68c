package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
)

// A server that is silent, and one that is gone, show as a lost connection with the time of what is shown; when it is back the view is what
// is now, though no event told of it.
func TestThePageTellsALostConnectionAndCatchesUp(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	bus := startServer(t)
	f.bus = bus.url()
	one := newPair(t)
	f.addPair("dcs-prod-01", "", one)
	p, base := f.served(t)
	f.listen = strings.TrimPrefix(base, "http://") // the next one is there as well
	b := openBrowser(t, base)
	b.open("#/actions", "main .note")
	lost := "/^connection lost, showing data of .*\\d:\\d\\d/.test(document.querySelector('#connection[data-state=lost]')?.textContent)"

	p.signals(syscall.SIGSTOP)
	b.until("silence is told", lost)
	b.shoot(looks[0], "lost")
	b.accessible("a lost connection")
	p.signals(syscall.SIGCONT)
	b.until("it is heard again", "document.querySelector('#connection[data-state=live]')")

	p.kill()
	b.until("its end is told", lost)
	one.r.detach()
	if code, stdout, stderr := command(t, "heal", "--instance", "dcs-prod-01", "-c", f.file); code != 2 {
		t.Fatalf("heal: exit %d: %s%s", code, stdout, stderr)
	}
	p = running(t, "-c", f.write(), "--roles", "dashboard") // which decides nothing
	b.until("it is back, and what was decided meanwhile is shown", "document.querySelector('#connection[data-state=live]') && document.querySelector('main table')?.innerText.includes('planned')")
	for _, c := range b.complaints() {
		if !strings.Contains(c, "net::ERR_") {
			t.Errorf("the browser complains of more than the connection: %s", c)
		}
	}
	p.stopsWell(sigterm)
}

// signals sends a signal to the process.
func (p *process) signals(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}
