package web

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"dcshealer/policies"
)

const token = "bait-token-0123456789"

// rig is a server whose answers say what they were asked.
type rig struct {
	*Server
	token atomic.Value // policies.Secret
	asked atomic.Value // Request
	log   bytes.Buffer
}

func newRig(t *testing.T, change func(*Options)) *rig {
	t.Helper()
	g := &rig{}
	g.token.Store(policies.Secret(token))
	o := Options{
		Version: "1.2.3", Dashboard: true, Answers: map[string]Answer{}, Open: true, Log: slog.New(slog.NewTextHandler(&g.log, nil)),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "metrics") }),
		Ready:   func(context.Context) []Check { return []Check{{Name: "bus", OK: true}} },
		Token:   func() policies.Secret { return g.token.Load().(policies.Secret) },
	}
	for _, name := range Operations() {
		o.Answers[name] = func(_ context.Context, r Request) (any, error) {
			g.asked.Store(r)
			return map[string]string{"operation": name}, nil
		}
	}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	g.Server = s
	return g
}

// send makes a request as the page does it, changed by what follows as NAME: VALUE.
func (g *rig) send(method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:9470"
	if method == "POST" {
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set(ownHeader, "1")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		if name == "Host" {
			r.Host = value
		} else if value == "" {
			r.Header.Del(name)
		} else {
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	g.ServeHTTP(w, r)
	return w
}

const bearer = "Authorization: Bearer " + token

func TestWhoMayDoWhat(t *testing.T) {
	closed := func(o *Options) { o.Open = false }
	for _, c := range []struct {
		name    string
		change  func(*Options)
		token   policies.Secret
		method  string
		path    string
		headers []string
		want    int
	}{
		{"who reads on loopback needs no token", nil, token, "GET", "/api/v1/status", nil, 200},
		{"nor for metrics", nil, token, "GET", "/metrics", nil, 200},
		{"by the name localhost too", nil, "", "GET", "/api/v1/status", []string{"Host: localhost:9470"}, 200},
		{"by IPv6 too", nil, "", "GET", "/api/v1/status", []string{"Host: [::1]:9470"}, 200},
		{"a name that was made to resolve to loopback reads nothing", nil, "", "GET", "/api/v1/status", []string{"Host: rebound.example:9470"}, 403},
		{"nor where there is a token", nil, token, "GET", "/api/v1/status", []string{"Host: rebound.example:9470"}, 401},
		{"nor metrics", nil, token, "GET", "/metrics", []string{"Host: rebound.example"}, 401},
		{"nor events", nil, token, "GET", "/api/v1/events", []string{"Host: rebound.example"}, 401},
		{"a proxy's name reads with the token", nil, token, "GET", "/api/v1/status", []string{"Host: healer.example", bearer}, 200},
		{"beyond loopback who reads needs the token", closed, token, "GET", "/api/v1/status", nil, 401},
		{"and has it", closed, token, "GET", "/api/v1/status", []string{bearer}, 200},
		{"beyond loopback metrics need the token", closed, token, "GET", "/metrics", nil, 401},
		{"health needs none", closed, token, "GET", "/healthz", []string{"Host: x"}, 200},
		{"nor does readiness", closed, token, "GET", "/readyz", []string{"Host: x"}, 200},
		{"the page shows nothing of the fleet", closed, token, "GET", "/", []string{"Host: x"}, 200},
		{"a change needs the token", nil, token, "POST", "/api/v1/pause", nil, 401},
		{"and has it", nil, token, "POST", "/api/v1/pause", []string{bearer}, 200},
		{"another token is none", nil, token, "POST", "/api/v1/pause", []string{bearer + "x"}, 401},
		{"nor is the beginning of it", nil, token, "POST", "/api/v1/pause", []string{bearer[:len(bearer)-1]}, 401},
		{"nor nothing", nil, token, "POST", "/api/v1/pause", []string{"Authorization: Bearer "}, 401},
		{"without a token nothing can be changed", nil, "", "POST", "/api/v1/pause", []string{"Authorization: Bearer "}, 403},
		{"nor by the word of one", nil, "", "POST", "/api/v1/live", []string{bearer}, 403},
		{"a made-up session is none", nil, token, "POST", "/api/v1/pause", []string{"Cookie: dcshealer_session=abc"}, 401},
		{"a form of another site is refused", nil, token, "POST", "/api/v1/pause", []string{bearer, "Content-Type: text/plain"}, 415},
		{"so is a request without our header", nil, token, "POST", "/api/v1/pause", []string{bearer, ownHeader + ": "}, 403},
		{"so is what a browser says comes from elsewhere", nil, token, "POST", "/api/v1/pause", []string{bearer, "Sec-Fetch-Site: cross-site"}, 403},
		{"so is another origin", nil, token, "POST", "/api/v1/pause", []string{bearer, "Origin: https://evil.example"}, 403},
		{"our own origin is fine", nil, token, "POST", "/api/v1/pause", []string{bearer, "Sec-Fetch-Site: same-origin"}, 200},
		{"a login from elsewhere is refused", nil, token, "POST", "/api/v1/login", []string{"Sec-Fetch-Site: cross-site"}, 403},
		{"a change is no reading", nil, token, "GET", "/api/v1/pause", []string{bearer}, 405},
		{"an unknown path", nil, token, "GET", "/api/v1/nothing", nil, 404},
		{"no way out of the files", nil, token, "GET", "/static/..%2findex.html", nil, 404},
	} {
		g := newRig(t, c.change)
		g.token.Store(c.token)
		if w := g.send(c.method, c.path, "{}", c.headers...); w.Code != c.want {
			t.Errorf("%s: %d, want %d: %s", c.name, w.Code, c.want, w.Body)
		}
		if strings.Contains(g.log.String(), token) {
			t.Errorf("%s: the token is in the log", c.name)
		}
	}
}

func TestASessionComesFromTheTokenAndEndsWithIt(t *testing.T) {
	g := newRig(t, func(o *Options) { o.Secure = true })
	if w := g.send("POST", "/api/v1/login", `{"token":"`+token+`x"}`); w.Code != 401 || len(w.Result().Cookies()) > 0 {
		t.Errorf("a wrong token: %d, cookies %v", w.Code, w.Result().Cookies())
	}
	if w := g.send("POST", "/api/v1/login", `rubbish `+token); w.Code != 400 || strings.Contains(w.Body.String(), token) {
		t.Errorf("rubbish: %d %s", w.Code, w.Body)
	}
	w := g.send("POST", "/api/v1/login", `{"token":"`+token+`"}`)
	cookies := w.Result().Cookies()
	if w.Code != 200 || len(cookies) != 1 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if c := cookies[0]; !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || strings.Contains(c.Value, "bait") || len(c.Value) < 20 {
		t.Errorf("cookie %v", c)
	}
	cookie := "Cookie: " + cookieName + "=" + cookies[0].Value
	if w := g.send("POST", "/api/v1/pause", "{}", cookie); w.Code != 200 {
		t.Errorf("with the session: %d %s", w.Code, w.Body)
	}
	if w := g.send("POST", "/api/v1/pause", "{}", cookie, ownHeader+": "); w.Code != 403 {
		t.Errorf("with the session alone, as another site could send it: %d", w.Code)
	}
	if w := g.send("GET", "/api/v1/session", "", cookie); !strings.Contains(w.Body.String(), `"may_change":true`) {
		t.Errorf("session: %s", w.Body)
	}
	g.token.Store(policies.Secret("another-token-0123456789"))
	if w := g.send("POST", "/api/v1/pause", "{}", cookie); w.Code != 401 {
		t.Errorf("after the token was changed: %d", w.Code)
	}
	g.token.Store(policies.Secret(token))
	g.send("POST", "/api/v1/logout", "{}", cookie)
	if w := g.send("POST", "/api/v1/pause", "{}", cookie); w.Code != 401 {
		t.Errorf("after the logout: %d", w.Code)
	}
}

func TestSessionsEndAndAreBounded(t *testing.T) {
	s, now := newSessions(), time.Unix(1000, 0)
	name, _ := s.open(token, now)
	if !s.valid(name, token, now.Add(sessionLife-1)) || s.valid(name, token, now.Add(sessionLife)) {
		t.Error("a session does not last for its life")
	}
	for range maxSessions - 1 {
		s.open(token, now)
	}
	if _, ok := s.open(token, now); ok {
		t.Error("sessions are not bounded")
	}
	if _, ok := s.open(token, now.Add(sessionLife+1)); !ok {
		t.Error("old sessions keep new ones out")
	}
}

func TestBadInputIsNamed(t *testing.T) {
	g := newRig(t, nil)
	for path, want := range map[string]string{
		"/api/v1/actions?foo=1":                           `parameter \"foo\": want one of [instance action outcome since limit]`,
		"/api/v1/actions?limit=1&limit=2":                 "parameter limit: want it once",
		"/api/v1/status?x=%1b%5b31m":                      "parameter",
		"/api/v1/nodes?node=%3Cb%3E":                      "no probe of a node",
		"/api/v1/actions/" + strings.Repeat("x", 101):     "at most 100",
		"/api/v1/incidents/" + strings.Repeat("%1b", 101): "at most 100",
	} {
		w := g.send("GET", path, "")
		if w.Code != 400 && w.Code != 404 || !strings.Contains(w.Body.String(), want) || strings.ContainsRune(w.Body.String(), 0x1b) {
			t.Errorf("%s: %d %q, want %q", path, w.Code, w.Body, want)
		}
		if kind := w.Header().Get("Content-Type"); kind != "application/json" {
			t.Errorf("%s: an error as %s", path, kind)
		}
	}
	if w := g.send("POST", "/api/v1/pause", strings.Repeat("x", maxBody+1), bearer); w.Code != 400 {
		t.Errorf("a body that is too long: %d", w.Code)
	}
}

func TestErrorsHaveTheirStatus(t *testing.T) {
	g := newRig(t, func(o *Options) {
		o.Answers["status"] = func(context.Context, Request) (any, error) { return nil, errors.New("disk \x1b[31mfull") }
		o.Answers["report"] = func(context.Context, Request) (any, error) { return nil, &Fault{404, errors.New("none")} }
		o.Answers["trend"] = func(context.Context, Request) (any, error) { return func() {}, nil }
	})
	for path, want := range map[string]int{"/api/v1/status": 500, "/api/v1/report": 404, "/api/v1/trend": 500} {
		if w := g.send("GET", path, ""); w.Code != want || !strings.Contains(w.Body.String(), `"error"`) || strings.ContainsRune(w.Body.String(), 0x1b) {
			t.Errorf("%s: %d %q, want %d", path, w.Code, w.Body, want)
		}
	}
	if !strings.Contains(g.log.String(), "request failed") || strings.Count(g.log.String(), "request failed") != 1 {
		t.Errorf("a fault of ours is logged, one of the reader not:\n%s", &g.log)
	}
}

func TestWhyIsPaced(t *testing.T) {
	p, now := newPace(5*time.Second), time.Unix(1000, 0)
	release, err := p.take("one", now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.take("two", now); err == nil {
		t.Error("two instances are probed at once")
	}
	release()
	if _, err := p.take("one", now.Add(4*time.Second)); err == nil {
		t.Error("an instance is probed again at once")
	}
	if r, err := p.take("two", now.Add(4*time.Second)); err != nil {
		t.Error(err)
	} else {
		r()
	}
	if _, err := p.take("one", now.Add(5*time.Second)); err != nil {
		t.Error(err)
	}
	g := newRig(t, nil)
	if a, b := g.send("GET", "/api/v1/why/one", ""), g.send("GET", "/api/v1/why/one", ""); a.Code != 200 || b.Code != 429 || b.Header().Get("Retry-After") == "" {
		t.Errorf("%d, then %d", a.Code, b.Code)
	}
}

func TestReadyNamesWhatIsNot(t *testing.T) {
	g := newRig(t, func(o *Options) {
		o.Ready = func(context.Context) []Check {
			return []Check{{Name: "bus", OK: true}, {Name: "journal", Text: "disk full"}}
		}
	})
	if w := g.send("GET", "/readyz", ""); w.Code != 503 || !strings.Contains(w.Body.String(), "disk full") || !strings.Contains(w.Body.String(), `"ready":false`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := g.send("GET", "/healthz", ""); w.Code != 200 {
		t.Errorf("alive all the same: %d", w.Code)
	}
}

func TestWithoutTheRoleOnlyMetricsAndHealthAreServed(t *testing.T) {
	g := newRig(t, func(o *Options) { o.Dashboard, o.Answers = false, nil })
	for path, want := range map[string]int{"/": 404, "/api/v1/status": 404, "/static/app.js": 404, "/metrics": 200, "/healthz": 200, "/readyz": 200} {
		if w := g.send("GET", path, ""); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

func TestEveryAnswerForbidsScriptsFromElsewhere(t *testing.T) {
	g := newRig(t, nil)
	for _, path := range []string{"/", "/static/app.js", "/api/v1/status", "/api/v1/nothing", "/healthz"} {
		h := g.send("GET", path, "").Header()
		csp := h.Get("Content-Security-Policy")
		if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") || !strings.Contains(csp, "frame-ancestors 'none'") {
			t.Errorf("%s: Content-Security-Policy %q", path, csp)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

// The policy allows no inline script or style: the page must have none, and nothing in it names another server.
func TestThePageKeepsItsOwnPolicy(t *testing.T) {
	g := newRig(t, nil)
	index := g.send("GET", "/", "").Body.String()
	if !strings.Contains(index, "dcshealer 1.2.3") {
		t.Error("the page does not show the version")
	}
	if bad := regexp.MustCompile(`<script(?:[^>]*)>[^<]|\son\w+=|style=|<style`).FindString(index); bad != "" {
		t.Errorf("inline: %q", bad)
	}
	for _, name := range regexp.MustCompile(`/static/[\w.-]+`).FindAllString(index, -1) {
		if w := g.send("GET", name, ""); w.Code != 200 || w.Header().Get("Content-Type") == "" {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	entries, _ := files.ReadDir("static")
	for _, e := range entries {
		data, _ := files.ReadFile("static/" + e.Name())
		own := e.Name() != "uplot.js" && e.Name() != "icon.svg" && e.Name() != "uplot-license.txt"
		if own && regexp.MustCompile(`https?://[^w'"]`).Match(data) && e.Name() != "app.js" {
			t.Errorf("%s names another server", e.Name())
		}
		if own && regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(`).Match(data) {
			t.Errorf("%s reads text as markup", e.Name())
		}
	}
}

func TestFilesAreAskedForAgainOnlyWhenTheyChanged(t *testing.T) {
	g := newRig(t, nil)
	tag := g.send("GET", "/static/app.js", "").Header().Get("ETag")
	if w := g.send("GET", "/static/app.js", "", "If-None-Match: "+tag); tag == "" || w.Code != 304 {
		t.Errorf("ETag %q: %d", tag, w.Code)
	}
}
