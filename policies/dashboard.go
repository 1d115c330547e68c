package policies

import (
	"fmt"
	"strconv"
	"strings"
)

// DashboardConfig protects what is served at Config.Listen.
type DashboardConfig struct {
	Token     Secret // empty: the dashboard only shows
	TokenFile string
	CertFile  string // of the server, in PEM form; empty: no TLS
	KeyFile   string
}

// MinToken is the least length of a token, in bytes.
const MinToken = 16

// Loopback reports whether nobody beyond this machine can reach a host that somebody listens on. A name other than localhost may
// resolve to anything.
func Loopback(host string) bool {
	if strings.EqualFold(host, "localhost") || host == "::1" {
		return true
	}
	parts := strings.Split(host, ".")
	if len(parts) != 4 || parts[0] != "127" {
		return false
	}
	for _, p := range parts {
		if n, err := strconv.Atoi(p); err != nil || n < 0 || n > 255 || strconv.Itoa(n) != p {
			return false
		}
	}
	return true
}

// ListensBeyond reports whether the listen address can be reached from other machines. An address that cannot be read counts as one.
func (c Config) ListensBeyond() bool {
	if c.Listen == "" {
		return false
	}
	text := c.Listen
	if host, free := strings.CutSuffix(text, ":0"); free {
		text = host + ":1"
	}
	a, err := ParseAddress(text)
	return err != nil || !Loopback(a.Host)
}

func (r *rules) dashboard(c Config) {
	d := c.Dashboard
	if validListen(c.Listen) {
		r.check(!c.ListensBeyond() || d.Token != "" && d.CertFile != "", "listen", c.Listen,
			"an address of this machine alone such as 127.0.0.1:9470, or dashboard.token_file and dashboard.tls for one that others reach",
			"dashboard.token_file", "dashboard.tls")
	}
	if d.Token != "" {
		r.check(len(d.Token) >= MinToken, "dashboard.token_file", fmt.Sprintf("a token of %d characters", len(d.Token)),
			fmt.Sprintf("a token of at least %d; make one with: openssl rand -hex 32", MinToken))
	}
}
