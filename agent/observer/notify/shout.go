package notify

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/nicholas-fedor/shoutrrr"
	"github.com/nicholas-fedor/shoutrrr/pkg/format"
	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"

	"dcshealer/policies"
)

// Shout sends to one of the services that shoutrrr knows: mail, chats, pagers. Its URL holds the secrets.
type Shout struct {
	url    policies.Secret
	router *router.ServiceRouter // nil until the first use
	titled bool                  // the service has a place for a title of its own
}

// NewShout wants a URL of shoutrrr, such as smtp://USER:PASSWORD@HOST:587/?from=A&to=B or slack://TOKEN@CHANNEL. It connects to nothing. The
// error shows no part of the URL but its scheme.
func NewShout(to policies.Secret) (s *Shout, err error) {
	s = &Shout{url: to}
	defer func() {
		if r := recover(); r != nil { // the library indexes into empty settings
			s, err = nil, errors.New("shoutrrr cannot read it: is a setting empty?")
		}
	}()
	scheme, config, err := serviceConfig(to)
	if err != nil {
		return nil, errors.New(hidden(err.Error(), to))
	}
	keys := format.NewPropKeyResolver(config)
	_, err = keys.Get(types.TitleKey)
	s.titled = err == nil
	if scheme == "matrix" { // it logs in as it is set up
		return s, nil
	}
	return s, s.open()
}

// serviceConfig reads the URL as its service does.
func serviceConfig(to policies.Secret) (scheme string, config types.ServiceConfig, err error) {
	if scheme, _, _ = strings.Cut(to.Reveal(), "://"); scheme == to.Reveal() {
		return "", nil, errors.New("no URL: want SERVICE://..., such as smtp://, slack:// or ntfy://")
	}
	u, err := url.Parse(to.Reveal())
	if err != nil {
		return "", nil, errors.New("no URL: special characters of a password or token are percent-encoded")
	}
	name, _, custom := strings.Cut(scheme, "+")
	service, err := new(router.ServiceRouter).NewService(name)
	if err != nil {
		return "", nil, fmt.Errorf("%w; see https://shoutrrr.nickfedor.com for those there are", err)
	}
	if custom {
		c, ok := service.(types.CustomURLService)
		if !ok {
			return "", nil, fmt.Errorf("%s takes no other URL after +", name)
		}
		if u, err = c.GetConfigURLFromCustom(u); err != nil {
			return "", nil, err
		}
	}
	config = format.GetServiceConfig(service)
	return name, config, config.SetURL(u)
}

// open sets the service up.
func (s *Shout) open() error {
	r, err := shoutrrr.CreateSender(s.url.Reveal())
	if err != nil {
		return fmt.Errorf("shoutrrr does not take it: %s", hidden(err.Error(), s.url))
	}
	s.router = r
	return nil
}

// Send takes 10 s at most. Which failures another try can help, the services do not say: every one is tried again.
func (s *Shout) Send(ctx context.Context, n Notice) error {
	if s.router == nil {
		if err := s.open(); err != nil {
			return &SendError{Err: err}
		}
	}
	params, text := types.Params{}, n.Text
	if s.titled {
		params.SetTitle(n.Title)
	} else {
		text = n.Title + "\n" + text
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-s.router.SendAsync(text, &params): // there is one service
		if err != nil {
			return &SendError{Err: fmt.Errorf("send: %s", hidden(err.Error(), s.url))}
		}
		return nil
	}
}

// hidden is an error's text without what may be secret in a URL.
func hidden(text string, u policies.Secret) string {
	for _, s := range secretParts(u.Reveal()) {
		text = strings.ReplaceAll(text, s, "[redacted]")
	}
	return policies.Printable(text, 400)
}

// secretParts are the parts of a URL that a service may take as a token, as they are written and decoded, a whole before its parts. A host
// with a dot or a port is an address.
func secretParts(raw string) (parts []string) {
	add := func(list ...string) {
		for _, s := range list {
			for _, decode := range []func(string) (string, error){url.QueryUnescape, url.PathUnescape} { // a + is a blank in a query alone
				if decoded, err := decode(s); err == nil {
					parts = append(parts, decoded, url.QueryEscape(decoded), url.PathEscape(decoded)) // as the service may write it
				}
			}
			parts = append(parts, s)
		}
	}
	add(raw)
	_, rest, _ := strings.Cut(raw, "://")
	add(rest)
	before, query, _ := strings.Cut(rest, "?")
	add(query)
	for _, pair := range strings.Split(query, "&") {
		_, v, _ := strings.Cut(pair, "=")
		add(v)
	}
	where, path, _ := strings.Cut(before, "/")
	add(path)
	add(strings.Split(path, "/")...)
	user, host, found := cutLast(where, "@")
	if !found {
		host = where
	} else {
		add(user)
		add(strings.Split(user, ":")...)
	}
	if !strings.ContainsAny(host, ".:") && host != "localhost" {
		add(host)
	}
	return longEnough(parts)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+len(sep):], true
}

// longEnough leaves out what is too short to be a secret: to hide it would garble the text.
func longEnough(parts []string) (long []string) {
	for _, p := range parts {
		if len(p) >= 4 && p != "true" && p != "false" {
			long = append(long, p)
		}
	}
	return long
}
