package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/redis/go-redis/v9"

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

// Every view shows a real fleet that heals, in light, dark and on a phone, for people without a mouse too, without a complaint of the
// browser and without asking anybody else; what happens shows by itself; and who has the token can change what the command line can, and
// is named in the journal.
func TestDashboardInABrowser(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	f.tokenFile()
	one, two := newPair(t), newPair(t)
	one.m.do("CONFIG", "SET", "maxmemory", 2*one.m.number("used_memory"))
	two.m.do("CONFIG", "SET", "maxmemory", "1gb")
	f.addPair("dcs-prod-01", "live: [reattach-replica]", one)
	f.addPair("dcs-prod-02", "", two)
	p, base := f.served(t)
	b := openBrowser(t, base)

	b.open("#/feed", "main h1")
	one.r.detach()
	two.r.detach()
	b.until("the alarm shows by itself", "[...document.querySelectorAll('.feed li.critical')].some(li => li.textContent.includes('dcs-prod-02'))")
	b.until("it is announced", "document.querySelector('#announce').textContent.startsWith('Critical alarm: dcs-prod-0')")
	b.marksUp(f)
	b.isLive(f)
	b.missesNothing(f)
	f.skipsNumbers()
	healed, planned := f.outcome("dcs-prod-01", policies.OutcomeSucceeded), f.outcome("dcs-prod-02", policies.OutcomePlanned)
	stateDir{f.file, f.state}.trip(t, "dcs-prod-02")

	for i, v := range viewsOf(healed, planned) {
		if i < 2 {
			b.open(v.view, v.selector)
		}
		b.follow(v.view, v.selector)
		for _, l := range looks[:v.looks] {
			b.as(l)
			b.until(v.name+" is drawn as "+l.name, fmt.Sprintf("document.querySelector('main [aria-busy]') === null && document.querySelector(%q)?.checkVisibility()", v.selector))
			b.shoot(l, v.name)
			b.accessible(v.name + " as " + l.name)
		}
		b.as(looks[0])
		if v.says != "" {
			b.until(v.name+" says "+v.says, fmt.Sprintf("document.querySelector('main').innerText.includes(%q)", v.says))
		}
	}
	b.tellsWithoutColours()
	b.readsByKeyboard()
	b.follow("#/", "section[data-instance='dcs-prod-02']")
	b.until("what is missing is told", "document.querySelector('main .note.warning')?.textContent.includes('3 of another missing in the archive')")
	b.patches()
	b.keepsItsPlace(f)
	b.pages(f)
	b.showsMany(f)
	b.asksWhy()
	b.changes(f, planned.Incident)
	b.innocent()
	b.follow("#/incidents/nosuch", ".note.critical") // an error of HTTP is one of the console
	b.until("the error is told", "document.querySelector('main').innerText.includes('no such incident')")
	b.shoot(looks[0], "error")
	if strings.Contains(p.stderr.String()+p.stdout.String(), dashboardToken) {
		t.Error("the token is in the log")
	}
	p.stopsWell(sigterm)
	f.verifies()
}

// pageView is one address of the page, in how many looks it is seen, an element that it has once it is drawn, and what it says.
type pageView struct {
	name, view     string
	looks          int
	selector, says string
}

func viewsOf(healed, planned policies.Record) []pageView {
	views := []pageView{
		{"fleet", "#/", 3, "section[data-instance='dcs-prod-02'] .note.critical", "with live repair"},
		{"main", "#main", 1, "section[data-instance='dcs-prod-02']", "with live repair"}, // where the skip link has led
		{"feed", "#/feed", 3, ".feed li.critical", "is a master instead of"},
		{"alarms", "#/alarms?text=INSTEAD&severity=critical", 3, "table td .badge.critical", "is a master instead of"},
		{"alarms-none", "#/alarms?text=nosuchwords", 1, "p.note", "No such alarm"},
		{"incidents", "#/incidents", 3, "table td a", "promoted"},
		{"incident-open", "#/incidents/" + planned.Incident, 3, ".story li.decision", "It did not act, for this is a dry run; to let it act: dcshealer live enable dcs-prod-02"},
		{"incident-healed", "#/incidents/" + healed.Incident, 3, ".story li.outcome", "It acted: reattach-replica on dcs-prod-01-r succeeded: link up after"},
		{"actions", "#/actions?instance=dcs-prod-02&outcome=planned", 3, "table td a", "denied by mode"},
		{"action", "#/actions/" + healed.ID, 3, ".plain li", "it follows its master"},
		{"instance", "#/instances/dcs-prod-02", 3, "button.main", "Why does it act, or not?"},
		{"node-limit", "#/nodes/dcs-prod-01/dcs-prod-01-m", 1, "figure canvas", "maxmemory"},
		{"node", "#/nodes/dcs-prod-02/dcs-prod-02-m", 3, "figure canvas", "maxclients 10,000, too far above to be drawn"},
		{"report", "#/report", 3, "dl dd", "1 of 1 actions helped, none failed or was undone"},
		{"controls", "#/controls", 3, "table td .badge.critical", "3 actions in a row failed or did not help"},
		{"nothing", "#/nosuch", 1, "main a", "No such view"},
	}
	for _, r := range []string{"15m", "1h", "6h", "24h", "7d", "30d"} {
		v := pageView{"trends-" + r, "#/trends?range=" + r, 1, "figure canvas", "dcs-prod-02"}
		if r == "15m" {
			v.looks = 3
		}
		views = append(views, v)
	}
	return views
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

// warns publishes a warning of another producer, which has neither id nor time.
func (f *fleet) warns(metric, msg string) {
	f.t.Helper()
	f.publishes(fmt.Sprintf(`{"instance":"dcs-prod-01","metric":%q,"value":1,"msg":%q}`, metric, msg))
}

func (f *fleet) publishes(payload string) {
	f.t.Helper()
	o, err := redis.ParseURL(f.busURL())
	if err != nil {
		f.t.Fatal(err)
	}
	c := redis.NewClient(o)
	defer c.Close()
	if err := c.Publish(f.t.Context(), "redis:monitor:warning", payload).Err(); err != nil {
		f.t.Fatalf("publish %s: %v", payload, err)
	}
}

// skipsNumbers has the archive miss alarms by the numbers of their source, which it tells after a while.
func (f *fleet) skipsNumbers() {
	f.t.Helper()
	for _, seq := range []int{1, 5} {
		f.publishes(fmt.Sprintf(`{"v":1,"id":"01M8BG8YBC71BPQQ6HWZNGWC9%d","seq":%d,"source":"another","instance":"dcs-prod-01","metric":"gap","value":1,"msg":"seq %d","ts":%q}`, seq, seq, seq, time.Now().UTC().Format(time.RFC3339Nano)))
	}
}

// isLive measures how long an alarm takes from its publication into the open feed.
func (b *browser) isLive(f *fleet) {
	b.t.Helper()
	eval[bool](b, `window.arrived = {}, new MutationObserver(() => {
		for (const [, n] of document.querySelector('.feed').textContent.matchAll(/live (\d+)\./g)) arrived[n] ??= Date.now();
	}).observe(document.querySelector('.feed'), {childList: true, subtree: true, characterData: true}), true`)
	var took []time.Duration
	for n := range 7 {
		at := time.Now()
		f.warns(fmt.Sprintf("live_%d", n), fmt.Sprintf("live %d.", n))
		b.until("the alarm has come", fmt.Sprintf("arrived[%d]", n))
		took = append(took, time.UnixMilli(int64(eval[float64](b, fmt.Sprintf("arrived[%d]", n)))).Sub(at))
	}
	slices.Sort(took)
	b.t.Logf("from publication to the page: %v", took)
	if median := took[len(took)/2]; median >= time.Second {
		b.t.Errorf("an alarm takes %s to the page, want less than 1 s: %v", median, took)
	}
}

// answers has a request of the page wait for do, and answered by what that gives, as are those like it until shown holds.
func (b *browser) answers(url string, do func() string, shown string) {
	b.t.Helper()
	pattern := fetch.RequestPattern{URLPattern: b.base + url + "*"}
	if _, err := chromedp.Call(b.ctx, fetch.Enable, fetch.EnableParams{Patterns: []*fetch.RequestPattern{&pattern}}); err != nil {
		b.t.Fatal(err)
	}
	b.do("load the page", chromedp.Reload())
	id := <-b.held
	body := []byte(do())
	ended, failed := make(chan bool), make(chan error, 1)
	go func() {
		for {
			if _, err := chromedp.Call(b.ctx, fetch.FulfillRequest, fetch.FulfillRequestParams{RequestID: id, ResponseCode: 200, Body: body}); err != nil {
				failed <- err
				return
			}
			select {
			case id = <-b.held:
			case <-ended:
				failed <- nil
				return
			}
		}
	}()
	b.until(shown, shown)
	close(ended)
	if err := <-failed; err != nil {
		b.t.Fatalf("answer %s: %v", url, err)
	}
	if _, err := chromedp.Call(b.ctx, fetch.Disable, cdp.Empty{}); err != nil {
		b.t.Fatal(err)
	}
}

// missesNothing has an alarm come between the question of the feed and the answer, which holds none.
func (b *browser) missesNothing(f *fleet) {
	b.t.Helper()
	b.answers("/api/v1/alarms", func() string {
		b.until("the events come", "document.querySelector('#connection[data-state=live]')")
		f.warns("gap", "it came meanwhile")
		return "[]"
	}, "document.querySelector('.feed')?.textContent.includes('it came meanwhile')")
}

// showsMany looks at a fleet of 500 instances and through it.
func (b *browser) showsMany(f *fleet) {
	b.t.Helper()
	b.open("#/", "section[data-instance='dcs-prod-02']")
	s := f.status()
	one := s.Instances[1] // in trouble
	s.Instances = nil
	for n := range 500 {
		one.Instance = fmt.Sprintf("dcs-prod-%03d", n)
		if n > 0 {
			one.Open, one.Breakers = []policies.Incident{}, map[policies.Action]string{}
		}
		s.Instances = append(s.Instances, one)
	}
	all, err := json.Marshal(s)
	if err != nil {
		b.t.Fatal(err)
	}
	b.answers("/api/v1/status", func() string { return string(all) }, "document.querySelectorAll('section.card').length === 500")
	b.shoot(looks[0], "many")
	b.accessible("a large fleet")
	eval[bool](b, "history.replaceState(null, '', '#/?which=trouble'), true")
	b.answers("/api/v1/status", func() string { return string(all) }, "document.querySelectorAll('section.card').length === 1 && document.querySelector('section.card').dataset.instance === 'dcs-prod-000'")
}

// tellsWithoutColours checks that each part of a stacked bar has a pattern of its own.
func (b *browser) tellsWithoutColours() {
	b.t.Helper()
	b.follow("#/trends?range=1h", "figure canvas")
	grey := eval[[]string](b, `[...document.querySelector('figure').querySelectorAll('.legend canvas')].map(c => {
		const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, first = d.slice(0, 4).join();
		let marks = '';
		for (let i = 0; i < d.length; i += 4) marks += d.slice(i, i + 4).join() === first ? '.' : '#';
		return marks;
	})`)
	if slices.Sort(grey); len(grey) != 3 || len(slices.Compact(grey)) != 3 {
		b.t.Errorf("severities differ by colour alone: %d, %q", len(grey), grey)
	}
}

// keepsItsPlace redraws the fleet by an event, and finds focus, scroll and the very elements where they were; filters keep theirs as well.
func (b *browser) keepsItsPlace(f *fleet) {
	b.t.Helper()
	b.as(look{"low", 360, 300, "light"})
	b.follow("#/", "section[data-instance='dcs-prod-02'] a")
	b.until("a link far down has the focus", `window.mine = document.querySelector('a[href="#/instances/dcs-prod-02"]'), mine.focus(), scrollY > 50`)
	eval[bool](b, `window.flips = [], window.paused = false, new MutationObserver(() => {
		const now = document.querySelector('section[data-instance=dcs-prod-01]')?.textContent.includes('paused');
		if (now !== paused) flips.push(Date.now());
		paused = now;
	}).observe(document.querySelector('main'), {childList: true, subtree: true, characterData: true}), true`)
	var took []time.Duration
	for i, order := range []string{"pause", "resume", "pause"} {
		succeeds(b.t, order, "dcs-prod-01", "--reason", "e2e", "-c", f.file)
		_, stdout, _ := here(b.t, "controls", "list", "--since", "1h", "-c", f.file, "-o", "json")
		rows := parse[[]changeRow](b.t, stdout)
		b.until(order+" shows", fmt.Sprintf("flips[%d]", i))
		took = append(took, time.UnixMilli(int64(eval[float64](b, fmt.Sprintf("flips[%d]", i)))).Sub(rows[len(rows)-1].At))
	}
	if b.t.Logf("from a person's word to the page: %v", took); slices.Min(took) >= time.Second {
		b.t.Errorf("what a person orders takes %v to the page, want less than 1 s", took)
	}
	if !b.holds("document.activeElement === mine && scrollY > 50") {
		b.t.Errorf("the focus is on %s, scrolled to %v", eval[string](b, "document.activeElement.outerHTML"), eval[float64](b, "scrollY"))
	}
	b.do("skip to the content", chromedp.Focus(chromedp.CSS(".skip")), chromedp.KeyEvent(kb.Enter))
	b.until("the content has the focus", "document.activeElement.id === 'main' && location.hash === '#/'")
	b.as(looks[0])

	b.follow("#/actions", "table td a")
	b.do("choose by keyboard", chromedp.Focus(chromedp.CSS("select[name=outcome]")), chromedp.KeyEvent("p"))
	b.until("the list is filtered, and the choice has the focus", "location.hash === '#/actions?outcome=planned' && !document.querySelector('main .badge.good') && document.querySelector('main .badge') && document.activeElement.name === 'outcome'")
}

// readsByKeyboard reads a value of a chart without a mouse.
func (b *browser) readsByKeyboard() {
	b.t.Helper()
	b.follow("#/nodes/dcs-prod-01/dcs-prod-01-m", "figure canvas")
	b.do("read a chart", chromedp.Focus(chromedp.CSS("figure [role=img]")), chromedp.KeyEvent(kb.ArrowLeft))
	b.until("the value is told", "/\\d:\\d\\d.*: counted .*iB/.test(document.querySelector('figcaption [aria-live=polite]')?.textContent)")
}

// patches has one random tree after another become the next, and finds it the same; what has a key is then still the same element.
func (b *browser) patches() {
	b.t.Helper()
	eval[bool](b, `import('/static/patch.js').then(({ patch }) => {
		let state = 42;
		const random = n => (state = (state * 1103515245 + 12345) % 2147483648) % n;
		const tree = depth => {
			const el = document.createElement('div'), keys = [0, 1, 2, 3, 4].sort(() => random(3) - 1);
			for (let n = random(6); n > 0; n--) {
				const c = random(3) ? (depth ? tree(depth - 1) : document.createElement(['p', 'b', 'i'][random(3)])) : document.createTextNode('text ' + random(9));
				if (c.dataset && random(2) && keys.length) c.dataset.key = keys.pop();
				if (c.title === '') c.title = random(5);
				el.append(c);
			}
			return el;
		};
		const faults = [];
		for (let n = 0, now = tree(2); n < 2000; n++) {
			const want = tree(2), copy = want.cloneNode(true), was = new Map([...now.children].filter(c => c.dataset.key).map(c => [c.dataset.key + c.nodeName, c]));
			patch(now, want);
			if (!now.isEqualNode(copy)) faults.push(now.outerHTML + ' instead of ' + copy.outerHTML);
			for (const c of now.children) if (c.dataset.key && (was.get(c.dataset.key + c.nodeName) ?? c) !== c) faults.push('made anew: ' + c.outerHTML);
		}
		window.patchFaults = faults.slice(0, 3);
	}), true`)
	b.until("the trees were patched", "window.patchFaults")
	if faults := eval[[]string](b, "patchFaults"); len(faults) > 0 {
		b.t.Errorf("a tree does not become as it should: %q", faults)
	}
}

// pages reads more alarms than one page holds.
func (b *browser) pages(f *fleet) {
	b.t.Helper()
	const all = 60
	b.follow("#/alarms?text=leaf", "main .note")
	asked, start := b.requests("/api/v1/alarms"), time.Now()
	for n := range all {
		f.warns("page", fmt.Sprintf("leaf %d.", n))
	}
	b.until("the first page is full", "document.querySelectorAll('tbody tr').length === 50 && document.querySelector('tbody').innerText.includes('leaf 59.')")
	if n, most := b.requests("/api/v1/alarms")-asked, int(time.Since(start)/(500*time.Millisecond))+2; n > most {
		b.t.Errorf("%d requests for %d alarms, want at most %d: more with a storm", n, all, most)
	}
	first := "[...document.querySelector('tbody').innerText.matchAll(/leaf (\\d+)\\./g)].map(m => m[1])"
	seen := eval[[]string](b, first)
	b.do("go on", chromedp.Click(chromedp.Search("//a[text()='Older alarms']")))
	b.until("the second page has the first alarm", "document.querySelector('tbody').innerText.includes('leaf 0.')")
	seen = append(seen, eval[[]string](b, first)...)
	slices.Sort(seen)
	if got := len(slices.Compact(seen)); got != all {
		b.t.Errorf("%d alarms on two pages, want %d", got, all)
	}
}

func (b *browser) asksWhy() {
	b.t.Helper()
	b.follow("#/instances/dcs-prod-02", "button.main")
	b.do("ask why", chromedp.Click(chromedp.CSS("button.main")))
	b.until("the guards are shown", "document.querySelector('main')?.innerText.includes('What it would do now') && document.querySelector('main').innerText.includes('dcshealer live enable dcs-prod-02')")
	b.shoot(looks[0], "why")
	b.accessible("why")
}

// changes logs in and does by forms what the command line does.
func (b *browser) changes(f *fleet, incident string) {
	b.t.Helper()
	b.do("log in", chromedp.Click(chromedp.CSS("#login")), chromedp.WaitVisible(chromedp.CSS("dialog input[name=token]")))
	b.accessible("the login")
	b.do("give the token", chromedp.SendKeys(chromedp.CSS("dialog input[name=token]"), dashboardToken+"\r"), chromedp.WaitVisible(chromedp.CSS("#logout")))
	b.follow("#/instances/dcs-prod-02", "main button")
	b.orders("Pause", "pause", "1h", "document.querySelector('main').innerText.includes('paused')")
	b.orders("Reset the breaker of reclaim-expired", "", "", "true")
	b.follow("#/controls", "table button")
	b.shoot(looks[0], "controls-token")
	b.accessible("controls with the token")
	b.orders("Resume", "", "", "!document.querySelector('main table').innerText.includes('dcs-prod-01') && document.querySelector('main').innerText.includes('resumed dcs-prod-01 (by ann via dashboard: e2e)')")
	if !b.holds("[...document.querySelectorAll('td')].some(td => /until \\d+:\\d\\d/.test(td.textContent) && td.querySelector('time')) && !document.querySelector('main').innerText.includes('UTC')") {
		b.t.Errorf("times are not in the reader's zone:\n%s", b.text())
	}
	b.follow("#/incidents/"+incident, ".story")
	b.orders("Take it", "", "", "document.querySelector('main').innerText.includes('Taken by ann via dashboard')")
	b.follow("#/report", "main .card button")
	b.orders("Enable live reclaim-expired", "", "1h", "[...document.querySelectorAll('main button')].some(x => x.textContent === 'Disable live reclaim-expired')")
	_, stdout, _ := here(b.t, "controls", "list", "--since", "1h", "-c", f.file)
	for _, want := range []string{"paused dcs-prod-02", "resumed dcs-prod-01", "breaker of reclaim-expired on dcs-prod-02 reset, it was open", "live repair by reclaim-expired enabled", "taken by ann via dashboard: e2e"} {
		if !strings.Contains(stdout, want) {
			b.t.Errorf("the journal does not have %q: %s", want, stdout)
		}
	}
	if !b.holds(fmt.Sprintf("!document.cookie.includes('dcshealer') && !JSON.stringify(localStorage).includes(%q)", dashboardToken)) {
		b.t.Error("a script can read the session or the token")
	}
	b.do("log out", chromedp.Click(chromedp.CSS("#logout")), chromedp.WaitVisible(chromedp.CSS("#login")))
	b.until("nothing can be changed any more", "![...document.querySelectorAll('main button')].some(x => x.textContent.includes('live'))")
}

// orders presses a button of the view, says who, why and for how long, and waits for what comes of it.
func (b *browser) orders(button, name, period, done string) {
	b.t.Helper()
	b.do(button, chromedp.Click(chromedp.Search(fmt.Sprintf("//main//button[text()=%q]", button))), chromedp.WaitVisible(chromedp.CSS("dialog input")), chromedp.SendKeys(chromedp.CSS("dialog input"), "e2e"),
		chromedp.SetValue(chromedp.CSS("dialog input[name=by]"), "ann"))
	if period != "" {
		b.do("for how long", chromedp.SendKeys(chromedp.CSS("dialog input[name=for]"), period))
	}
	if name != "" {
		b.shoot(looks[0], name)
		b.accessible("the form of " + button)
	}
	b.do("send it", chromedp.Click(chromedp.CSS("dialog button.main")))
	b.until("the form is gone", "document.querySelector('dialog') === null")
	b.until("what "+button+" does shows", done)
}
