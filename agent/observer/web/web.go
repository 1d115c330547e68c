// Package web serves the dashboard: the page, the JSON API behind it, its live events, metrics and health. What it shows it is given;
// it probes nothing and decides nothing. A request that changes something needs the token and goes to a function of the caller.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"

	"dcshealer/policies"
)

// Request is one call of the API.
type Request struct {
	ID    string     // of the path; empty: it has none
	Query url.Values // only parameters that the route knows, each at most once
	Body  []byte     // JSON; nil for a reading call
}

// An Answer gives what a call shows, to be encoded as JSON. Its error is a 500 unless it is a *Fault.
type Answer func(ctx context.Context, r Request) (any, error)

// Fault is an error with a status of HTTP.
type Fault struct {
	Status int
	Err    error
}

func (f *Fault) Error() string { return f.Err.Error() }
func (f *Fault) Unwrap() error { return f.Err }

// Check is one thing that has to work before this process is ready.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Text string `json:"text,omitempty"` // what is not, and what to do
}

// Options say what is served.
type Options struct {
	Version   string
	Dashboard bool              // the page and the API too; else metrics and health alone
	Answers   map[string]Answer // by the operation of the route; each that Operations names
	Metrics   http.Handler
	Ready     func(ctx context.Context) []Check
	Token     func() policies.Secret // asked at each request, so that it may change; empty: nothing can be changed
	Open      bool                   // who reads needs no token, for the address is of this machine alone
	Secure    bool                   // it is served over TLS
	Log       *slog.Logger
}

// Server answers at one address. It is safe for concurrent use.
type Server struct {
	opt      Options
	log      *slog.Logger
	sessions *sessions
	events   *hub
	series   *series
	pace     *pace
	handler  http.Handler
}

// New makes a Server; it listens nowhere before Serve.
func New(o Options) (*Server, error) {
	s := &Server{opt: o, log: o.Log.With("component", "dashboard"), sessions: newSessions(), events: newHub(), series: newSeries(), pace: newPace(whyEvery)}
	for _, name := range Operations() {
		if o.Dashboard && o.Answers[name] == nil {
			return nil, fmt.Errorf("dashboard: nothing answers the operation %s", name)
		}
	}
	handler, err := s.routes()
	s.handler = handler
	return s, err
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.handler.ServeHTTP(w, r) }

// endWithin bounds how long requests under way may take when Serve ends.
const endWithin = 2 * time.Second

// Serve answers on l, which may speak TLS, until ctx ends; it returns nil then.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler: s, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // a client that hangs up is no fault of ours
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("dashboard: %w", err)
	case <-ctx.Done():
	}
	s.events.close()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), endWithin)
	defer cancel()
	if err := h.Shutdown(last); err != nil {
		_ = h.Close() // who still waits is cut off
	}
	<-ended
	return nil
}

const (
	maxBody   = 16 << 10
	writeTime = 30 * time.Second // for one answer
)

// call runs the answer of a route.
func (s *Server) call(rt route) http.HandlerFunc {
	answer := s.opt.Answers[rt.operation]
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := readRequest(w, r, rt)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if rt.paced {
			release, err := s.pace.take(q.ID, time.Now())
			if err != nil {
				w.Header().Set("Retry-After", "5")
				s.fail(w, r, err)
				return
			}
			defer release()
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTime))
		v, err := answer(r.Context(), q)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		writeJSON(w, http.StatusOK, v)
	}
}

func readRequest(w http.ResponseWriter, r *http.Request, rt route) (q Request, err error) {
	q = Request{ID: r.PathValue("id"), Query: r.URL.Query()}
	for name, values := range q.Query {
		if !slices.Contains(rt.params, name) {
			return q, bad("parameter %q: want one of %v", policies.Printable(name, 50), rt.params)
		}
		if len(values) != 1 {
			return q, bad("parameter %s: want it once", name)
		}
	}
	if len(q.ID) > 100 {
		return q, bad("an id or a name of %d bytes: want at most 100", len(q.ID))
	}
	if rt.writes() {
		if q.Body, err = readBody(w, r); err != nil {
			return q, bad("read the request: %w", err)
		}
	}
	return q, nil
}

// readBody waits for a body of 16 KiB at most, for 10 s at most.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	c := http.NewResponseController(w)
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	defer func() { _ = c.SetReadDeadline(time.Time{}) }()
	return io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
}

// bad is the Fault of a request that cannot be answered as it is.
func bad(format string, args ...any) error {
	return &Fault{http.StatusBadRequest, fmt.Errorf(format, args...)}
}

// fail answers with an error. Its text is for a person; one from outside has been made printable.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusInternalServerError
	var f *Fault
	if errors.As(err, &f) {
		status = f.Status
	}
	if status >= http.StatusInternalServerError && r.Context().Err() == nil {
		s.log.Error("request failed", "path", policies.Printable(r.URL.Path, 200), "err", err)
	}
	writeJSON(w, status, map[string]string{"error": policies.Printable(err.Error(), 2000)})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be encoded"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(data, '\n')) // a reader that has gone is no fault
}
