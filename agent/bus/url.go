package bus

import (
	"errors"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// errURL says nothing of what was given: in a URL with an unescaped /, #, ? or @ in its password any part of it may be
// the password, and the errors of the URL parsers show such parts.
var errURL = errors.New("bus url: want redis://[USER:PASSWORD@]HOST:PORT[/DB], rediss://... or unix://PATH; " +
	"in a password write / # ? @ : % as %2F %23 %3F %40 %3A %25")

func parseURL(secret policies.Secret) (*redis.Options, error) {
	u, err := url.Parse(secret.Reveal())
	if err != nil || u.Fragment != "" || u.Scheme != "unix" && (u.Host == "" || strings.Contains(u.Path, "@")) {
		return nil, errURL
	}
	opt, err := redis.ParseURL(secret.Reveal())
	if err != nil {
		return nil, errURL
	}
	return opt, nil
}
