package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"dcshealer/policies"
)

const dashboardToken = "bait-token-51c0ffee-0123456789"

// served is a fleet with a dashboard on a free port, and its process.
func (f *fleet) served(t *testing.T) (p *process, base string) {
	t.Helper()
	f.listen = "127.0.0.1:0"
	p = running(t, "-c", f.write())
	return p, p.serves()
}

// serves is where the dashboard of a process is.
func (p *process) serves() string {
	p.t.Helper()
	found := regexp.MustCompile(`url=(http://127\.0\.0\.1:\d+)`)
	p.until("it serves", func() bool { return found.MatchString(p.stderr.String()) })
	return found.FindStringSubmatch(p.stderr.String())[1]
}

// tokenFile gives the dashboard a token.
func (f *fleet) tokenFile() {
	f.t.Helper()
	f.beside("token", dashboardToken+"\n")
	f.dashboard = "token_file: token"
}

// Every view shows a real fleet, in light, dark and on a phone, without a complaint of the browser and without asking anybody else; what
// happens shows by itself; a text full of markup stays text; and who has the token can pause, and is named in the journal.
func TestDashboardInABrowser(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.tokenFile()
	one, two := newPair(t), newPair(t)
	two.m.do("CONFIG", "SET", "maxmemory", "100mb")
	f.addPair("dcs-prod-01", "", one)
	f.addPair("dcs-prod-02", "", two)
	p, base := f.served(t)
	b := openBrowser(t, base)

	b.open("#/feed", "main h1")
	one.r.detach()
	b.until("the alarm shows by itself", "document.querySelector('.feed li.critical')?.textContent.includes('dcs-prod-01')")
	b.until("it is announced", "document.querySelector('#announce').textContent.startsWith('Critical alarm: dcs-prod-01')")
	b.marksUp(f)
	record := f.outcome("dcs-prod-01", policies.OutcomePlanned)

	views := []struct{ name, view, selector string }{
		{"fleet", "#/", "section[data-instance='dcs-prod-01'] .note.critical"},
		{"feed", "#/feed", ".feed li.critical"},
		{"trends", "#/trends?range=15m", "figure canvas"},
		{"incidents", "#/incidents", "table td a"},
		{"incident", "#/incidents/" + record.Incident, ".story li.decision"},
		{"actions", "#/actions?outcome=planned", "table td a"},
		{"action", "#/actions/" + record.ID, "table td .badge.critical"},
		{"instance", "#/instances/dcs-prod-01", "button.main"},
		{"node", "#/nodes/dcs-prod-02/dcs-prod-02-m", "figure canvas"},
	}
	for _, v := range views {
		b.open(v.view, v.selector)
		for _, l := range looks {
			b.as(l)
			b.until(v.name+" is drawn as "+l.name, fmt.Sprintf("document.querySelector('main [aria-busy]') === null && document.querySelector(%q)?.checkVisibility()", v.selector))
			b.shoot(l, v.name)
		}
		b.as(looks[0])
	}
	b.innocent()

	b.asksWhy()
	b.pauses(f)
	b.innocent()
	if strings.Contains(p.stderr.String()+p.stdout.String(), dashboardToken) {
		t.Error("the token is in the log")
	}
	p.stopsWell(sigterm)
	f.verifies()
}

// marksUp publishes an alarm that is full of markup and control characters, and finds it as text.
func (b *browser) marksUp(f *fleet) {
	b.t.Helper()
	const msg = "<img src=x onerror=alert(1)><script>alert(2)</script>\x1b[31m\u202egnihtemos"
	url := f.busURL()
	succeeds(b.t, "publish", "--bus", url, "--severity", "warning", "--instance", "dcs-prod-01", "--metric", "used_memory_mb", "--value", "1", "--msg", msg)
	b.until("the markup shows as text", "[...document.querySelectorAll('.feed li')].some(li => li.textContent.includes('<img src=x onerror=alert(1)>'))")
	if b.holds("document.querySelector('.feed img, .feed script') !== null || /[\\u001b\\u202e]/.test(document.querySelector('.feed').textContent)") {
		b.t.Error("markup or control characters of an alarm reach the page")
	}
}

// busURL is the bus of the process that runs.
func (f *fleet) busURL() string {
	f.t.Helper()
	info, err := readRunInfo(f.state)
	if err != nil {
		f.t.Fatal(err)
	}
	return info.Bus
}

func (b *browser) asksWhy() {
	b.t.Helper()
	b.open("#/instances/dcs-prod-01", "button.main")
	b.do("ask why", chromedp.Click(chromedp.CSS("button.main")))
	b.until("the guards are shown", "document.querySelector('main')?.innerText.includes('What it would do now') && document.querySelector('main').innerText.includes('dcshealer live enable dcs-prod-01')")
	b.shoot(looks[0], "why")
}

// pauses logs in and pauses an instance by keyboard and form.
func (b *browser) pauses(f *fleet) {
	b.t.Helper()
	b.do("log in", chromedp.Click(chromedp.CSS("#login")), chromedp.WaitVisible(chromedp.CSS("dialog input[name=token]")),
		chromedp.SendKeys(chromedp.CSS("dialog input[name=token]"), dashboardToken+"\r"), chromedp.WaitVisible(chromedp.CSS("#logout")))
	b.open("#/instances/dcs-prod-02", "main button")
	b.do("pause", clickOn("Pause"),
		chromedp.WaitVisible(chromedp.CSS("dialog input[name=reason]")), chromedp.SendKeys(chromedp.CSS("dialog input[name=reason]"), "e2e"),
		chromedp.SendKeys(chromedp.CSS("dialog input[name=by]"), "ann"))
	b.shoot(looks[0], "pause")
	b.do("send it", chromedp.Click(chromedp.CSS("dialog button.main")))
	b.until("it shows as paused", "document.querySelector('main').innerText.includes('paused')")
	_, stdout, _ := here(b.t, "controls", "list", "-c", f.file, "-o", "json")
	if !strings.Contains(stdout, `"ann via dashboard"`) {
		b.t.Errorf("the journal does not name who paused: %s", stdout)
	}
	if !b.holds(fmt.Sprintf("!document.cookie.includes('dcshealer') && !JSON.stringify(localStorage).includes(%q)", dashboardToken)) {
		b.t.Error("a script can read the session or the token")
	}
}

// clickOn presses the button of the view with that text.
func clickOn(text string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error {
		_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](fmt.Sprintf("[...document.querySelectorAll('main button')].find(x => x.textContent === %q).click() ?? true", text)))
		return err
	})
}
