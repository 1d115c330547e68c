package web

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

// need says who may call a route.
type need int

const (
	anyone need = iota // it shows nothing of the fleet
	reader
	changer
)

// route is one call of the API. operation is also its operationId in openapi.yaml, which a test holds equal to this table.
type route struct {
	method, path, operation string
	need                    need
	params                  []string
	paced                   bool // it probes: not more often than now and then
}

func (rt route) writes() bool { return rt.method == http.MethodPost }

// api is every route below /api/v1.
var api = []route{
	{method: "GET", path: "/status", operation: "status", need: reader},
	{method: "GET", path: "/incidents", operation: "incidents", need: reader, params: []string{"instance", "open", "since", "limit"}},
	{method: "GET", path: "/incidents/{id}", operation: "incident", need: reader},
	{method: "GET", path: "/why/{id}", operation: "why", need: reader, paced: true},
	{method: "GET", path: "/actions", operation: "actions", need: reader, params: []string{"instance", "action", "outcome", "since", "limit"}},
	{method: "GET", path: "/actions/{id}", operation: "action", need: reader},
	{method: "GET", path: "/alarms", operation: "alarms", need: reader, params: []string{"severity", "instance", "metric", "text", "since", "until", "limit"}},
	{method: "GET", path: "/trend", operation: "trend", need: reader, params: []string{"by", "bucket", "since"}},
	{method: "GET", path: "/report", operation: "report", need: reader, params: []string{"instance", "since"}},
	{method: "GET", path: "/controls", operation: "controls", need: reader, params: []string{"since"}},
	{method: "GET", path: "/live", operation: "liveList", need: reader},
	{method: "GET", path: "/nodes", operation: "nodes", need: reader, params: []string{"instance", "node"}},
	{method: "GET", path: "/events", operation: "events", need: reader},
	{method: "GET", path: "/session", operation: "session", need: anyone},
	{method: "GET", path: "/openapi.yaml", operation: "openapi", need: anyone},
	{method: "POST", path: "/login", operation: "login", need: anyone},
	{method: "POST", path: "/logout", operation: "logout", need: anyone},
	{method: "POST", path: "/live", operation: "liveSet", need: changer},
	{method: "POST", path: "/pause", operation: "pause", need: changer},
	{method: "POST", path: "/resume", operation: "resume", need: changer},
	{method: "POST", path: "/breaker/reset", operation: "breakerReset", need: changer},
	{method: "POST", path: "/incidents/{id}/ack", operation: "acknowledge", need: changer},
}

// own are the operations that this package answers by itself.
var own = map[string]func(*Server) http.HandlerFunc{
	"nodes": (*Server).nodes, "events": (*Server).stream, "session": (*Server).session, "openapi": (*Server).openAPI,
	"login": (*Server).login, "logout": (*Server).logout,
}

const apiRoot = "/api/v1"

// Operations are those that need an Answer.
func Operations() (names []string) {
	for _, rt := range api {
		if own[rt.operation] == nil {
			names = append(names, rt.operation)
		}
	}
	return names
}

// routes puts the handlers together.
func (s *Server) routes() (http.Handler, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.ready)
	mux.Handle("GET /metrics", s.allow(reader, s.opt.Metrics))
	if s.opt.Dashboard {
		for _, rt := range api {
			var handler http.Handler
			if mine := own[rt.operation]; mine != nil {
				handler = mine(s)
			} else {
				handler = s.call(rt)
			}
			if rt.writes() {
				handler = s.fromUs(handler)
			}
			mux.Handle(rt.method+" "+apiRoot+rt.path, s.allow(rt.need, handler))
		}
		if err := s.page(mux); err != nil {
			return nil, err
		}
	}
	return headers(s.opt.Secure, mux), nil
}

// policy lets the page load its own files and nothing else; a text that got into it as markup still runs no script.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

func headers(secure bool, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if secure {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// ready says whether this process does its work, and what of it does not.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	checks := s.opt.Ready(r.Context())
	ok := !slices.ContainsFunc(checks, func(c Check) bool { return !c.OK })
	status := http.StatusOK
	if !ok {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, map[string]any{"ready": ok, "at": time.Now().UTC(), "checks": checks})
}
