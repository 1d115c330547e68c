package web

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"dcshealer/policies"
)

const (
	cookieName  = "dcshealer_session"
	ownHeader   = "X-Dcshealer" // no other site can have a browser send it without our consent
	sessionLife = 12 * time.Hour
	maxSessions = 1000
)

// allow lets a request through to next when it may.
func (s *Server) allow(n need, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := s.opt.Token()
		switch {
		case n == anyone, n == reader && s.opt.Open && localHost(r.Host), s.known(r, token):
			next.ServeHTTP(w, r)
		case token == "" && n == changer:
			s.fail(w, r, &Fault{http.StatusForbidden, errors.New("this dashboard only shows: set dashboard.token_file in the config, or use the command line")})
		case token == "":
			s.fail(w, r, &Fault{http.StatusForbidden, errors.New("without a token it answers only as 127.0.0.1, [::1] or localhost: use one of these, or set dashboard.token_file in the config")})
		default:
			w.Header().Set("WWW-Authenticate", "Bearer")
			s.fail(w, r, &Fault{http.StatusUnauthorized, errors.New("log in, or send the token as Authorization: Bearer TOKEN")})
		}
	})
}

// localHost reports whether a request names this machine. A page elsewhere whose name was made to resolve to 127.0.0.1 names itself.
func localHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return policies.Loopback(strings.Trim(host, "[]"))
}

// known reports whether the request carries the token or the cookie of a session.
func (s *Server) known(r *http.Request, token policies.Secret) bool {
	if token == "" {
		return false
	}
	if given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return same(given, token)
	}
	c, err := r.Cookie(cookieName)
	return err == nil && s.sessions.valid(c.Value, token, time.Now())
}

// same compares in a time that tells nothing of the token, its length included.
func same(given string, token policies.Secret) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token.Reveal()))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// fromUs refuses what another site may have had a browser send.
func (s *Server) fromUs(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
		switch {
		case origin.Check(r) != nil:
			s.fail(w, r, &Fault{http.StatusForbidden, errors.New("the request comes from another site")})
		case r.Header.Get(ownHeader) == "":
			s.fail(w, r, &Fault{http.StatusForbidden, errors.New("send the header " + ownHeader + ": 1")})
		case strings.TrimSpace(kind) != "application/json":
			s.fail(w, r, &Fault{http.StatusUnsupportedMediaType, errors.New("send Content-Type: application/json")})
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// sessions are who has logged in. They end with this process, after a while, and when the token changes.
type sessions struct {
	mu  sync.Mutex // guards what follows
	all map[[32]byte]login
}

type login struct {
	until time.Time
	token [32]byte // digest of the one that it was opened with
}

func newSessions() *sessions { return &sessions{all: map[[32]byte]login{}} }

// open begins a session and returns its name, which is kept only as a digest.
func (s *sessions) open(token policies.Secret, now time.Time) (name string, ok bool) {
	name = rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, l := range s.all {
		if now.After(l.until) {
			delete(s.all, k)
		}
	}
	if len(s.all) >= maxSessions {
		return "", false
	}
	s.all[sha256.Sum256([]byte(name))] = login{now.Add(sessionLife), sha256.Sum256([]byte(token.Reveal()))}
	return name, true
}

func (s *sessions) valid(name string, token policies.Secret, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.all[sha256.Sum256([]byte(name))]
	return ok && now.Before(l.until) && l.token == sha256.Sum256([]byte(token.Reveal()))
}

func (s *sessions) end(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, sha256.Sum256([]byte(name)))
}

// login opens a session for who has the token.
func (s *Server) login() http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Token string `json:"token"`
		}
		data, err := readBody(w, r)
		if err == nil {
			err = json.Unmarshal(data, &body)
		}
		token := s.opt.Token()
		switch {
		case err != nil:
			s.fail(w, r, bad(`want {"token": "..."}`)) // the cause could show what was sent
		case token == "":
			s.fail(w, r, &Fault{http.StatusForbidden, errors.New("there is no token: set dashboard.token_file in the config")})
		case !same(body.Token, token):
			s.log.Warn("login refused", "from", r.RemoteAddr)
			s.fail(w, r, &Fault{http.StatusUnauthorized, errors.New("this is not the token")})
		default:
			name, ok := s.sessions.open(token, time.Now())
			if !ok {
				s.fail(w, r, &Fault{http.StatusServiceUnavailable, errors.New("too many sessions are open: log out elsewhere, or wait")})
				return
			}
			http.SetCookie(w, s.cookie(name, sessionLife))
			writeJSON(w, http.StatusOK, map[string]bool{"authenticated": true})
		}
	}
}

func (s *Server) cookie(value string, life time.Duration) *http.Cookie {
	c := &http.Cookie{Name: cookieName, Value: value, Path: "/", MaxAge: int(life.Seconds()), HttpOnly: true, Secure: s.opt.Secure, SameSite: http.SameSiteStrictMode}
	if life <= 0 {
		c.MaxAge = -1
	}
	return c
}

func (s *Server) logout() http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie(cookieName); err == nil {
			s.sessions.end(c.Value)
		}
		http.SetCookie(w, s.cookie("", 0))
		writeJSON(w, http.StatusOK, map[string]bool{"authenticated": false})
	}
}

// session says what the caller may do.
func (s *Server) session() http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token := s.opt.Token()
		known := s.known(r, token)
		writeJSON(w, http.StatusOK, map[string]any{
			"authenticated": known, "may_read": known || s.opt.Open && localHost(r.Host), "may_change": known, "has_token": token != "", "version": s.opt.Version,
		})
	}
}
