package main

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/fetch"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"dcshealer/agent/probe/redistest"
)

// browser is one tab of a headless Chromium, and what it complained of.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string // of the page

	mu      sync.Mutex // guards what follows
	errors  []string   // of the console, the page and its policy
	outside []string   // requests to anybody else
	asked   []string   // every request
	cut     int        // connections that Chromium ended by itself

	held chan fetch.RequestID // requests that wait for an answer of the test
}

// openBrowser starts Chromium; without one the test is not run.
func openBrowser(t *testing.T, base string) *browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		redistest.Missing(t, "no chromium on PATH: .ci/setup browser installs it")
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("lang", "en-GB"), chromedp.Env("TZ=Europe/Berlin"))
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...) // not the test's context: that ends before the cleanups
	t.Cleanup(stop)
	b := &browser{t: t, base: base, held: make(chan fetch.RequestID, 100)}
	ctx, end := chromedp.NewContext(allocator, chromedp.WithListener(b.hear))
	t.Cleanup(end)
	b.ctx = ctx
	if err := chromedp.Do(ctx); err != nil { // starts the browser, which lives as long as this context
		t.Fatalf("start %s: %v", path, err)
	}
	if _, err := chromedp.Call(ctx, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true}); err != nil { // else no element of a headless page has the focus
		t.Fatal(err)
	}
	return b
}

func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		b.errors = append(b.errors, e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type != runtime.ConsoleAPICalledTypeLog {
			b.errors = append(b.errors, fmt.Sprintf("console %s: %s", e.Type, e.Args[0].Value))
		}
	case *log.EventEntryAdded:
		if strings.Contains(e.Entry.Text, networkChanged) {
			b.cut++
		} else if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.errors = append(b.errors, e.Entry.Text+" "+e.Entry.URL)
		}
	case *fetch.EventRequestPaused:
		b.held <- e.RequestID
	case *network.EventRequestWillBeSent:
		url := e.Request.URL
		b.asked = append(b.asked, url)
		if !strings.HasPrefix(url, b.base+"/") && !strings.HasPrefix(url, "data:") && url != "about:blank" {
			b.outside = append(b.outside, url)
		}
	}
}

func (b *browser) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v; the browser says %q; the page says\n%s", what, err, b.complaints(), b.text())
	}
}

// open goes to a view and waits for an element of it. Chromium cuts every connection when a network of the machine comes or goes, as those of
// container tests do: then it is opened again.
func (b *browser) open(view, selector string) {
	b.t.Helper()
	for {
		before := b.cuts()
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		err := chromedp.Do(ctx, chromedp.Navigate("about:blank"), chromedp.Navigate(b.base+"/"+view))
		for err == nil && !b.holds(fmt.Sprintf("document.querySelector('#connection[data-state=live]') && document.querySelector(%q)?.checkVisibility()", selector)) && b.cuts() == before {
			if err = ctx.Err(); err == nil {
				err = chromedp.Do(ctx, chromedp.Sleep(20*time.Millisecond))
			}
		}
		cancel()
		switch {
		case b.cuts() != before, err != nil && strings.Contains(err.Error(), networkChanged):
		case err != nil:
			b.t.Fatalf("open %s: %v; the browser says %q; the page says\n%s", view, err, b.complaints(), b.text())
		default:
			return
		}
	}
}

// follow goes to a view as a link does, without loading the page anew.
func (b *browser) follow(view, selector string) {
	b.t.Helper()
	eval[bool](b, fmt.Sprintf("window.followed = location.hash === %[1]q, addEventListener('hashchange', () => { followed = true; }, {once: true}), location.hash = %[1]q, true", view))
	b.until(view+" is drawn", fmt.Sprintf("followed && document.querySelector('main [aria-busy]') === null && document.querySelector(%q)?.checkVisibility()", selector))
}

// requests counts those that begin so.
func (b *browser) requests(url string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.asked {
		if strings.HasPrefix(a, b.base+url) {
			n++
		}
	}
	return n
}

const networkChanged = "ERR_NETWORK_CHANGED"

func (b *browser) cuts() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.cut
}

func (b *browser) text() string {
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body?.innerText ?? ''"))
	return text
}

// until waits for a JavaScript expression to hold. The page's policy forbids what would poll inside it.
func (b *browser) until(what, expression string) {
	b.t.Helper()
	redistest.Eventually(b.t, what, func() bool { return b.holds(expression) })
}

func (b *browser) holds(expression string) bool {
	b.t.Helper()
	return eval[bool](b, "Boolean("+expression+")")
}

func (b *browser) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.errors)
}

// look is how a reader sees the page.
type look struct {
	name          string
	width, height int64
	scheme        string
}

var looks = []look{{"light", 1280, 900, "light"}, {"dark", 1280, 900, "dark"}, {"phone", 360, 800, "light"}}

// shoot keeps a picture of what is shown, and checks that it fits the width.
func (b *browser) shoot(l look, name string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatalf("screenshot of %s: %v", name, err)
	}
	if err := os.WriteFile(filepath.Join(b.t.ArtifactDir(), name+"-"+l.name+".png"), picture, 0o600); err != nil {
		b.t.Fatal(err)
	}
	if !b.holds("document.documentElement.scrollWidth <= document.documentElement.clientWidth") {
		b.t.Errorf("%s, %s: the page is wider than the screen", name, l.name)
	}
}

func (b *browser) as(l look) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: l.scheme}}})
	if err == nil {
		_, err = chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: l.height, DeviceScaleFactor: 1, Mobile: l.name == "phone"})
	}
	if err != nil {
		b.t.Fatalf("look as %s: %v", l.name, err)
	}
}

//go:embed testdata/page/access.js
var accessScript string

// accessFaults are what the page as it is shown now has for people who cannot see it or have no mouse.
func (b *browser) accessFaults() []string {
	b.t.Helper()
	return eval[[]string](b, accessScript)
}

func (b *browser) accessible(what string) {
	b.t.Helper()
	if faults := b.accessFaults(); len(faults) > 0 {
		b.t.Errorf("%s keeps people out:\n%s", what, strings.Join(faults, "\n"))
	}
}

// eval gives the value of a JavaScript expression.
func eval[T any](b *browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%.200s: %v", expression, err)
	}
	return v
}

// innocent checks that nothing was complained of and nobody else was asked.
func (b *browser) innocent() {
	b.t.Helper()
	if said := b.complaints(); len(said) > 0 {
		b.t.Errorf("the browser complains: %q", said)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.asked) == 0 {
		b.t.Error("no request was seen: nothing was watched")
	}
	if len(b.outside) > 0 {
		b.t.Errorf("requests to others: %q", b.outside)
	}
}
