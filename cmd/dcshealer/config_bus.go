package main

import (
	"regexp"
	"strings"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

const wantBusURL = "redis://[USER:PASSWORD@]HOST:PORT[/DB] or rediss://... for TLS, special characters of a password percent-encoded (/ is %2F); " +
	"leave the key out for an embedded bus"

// bus reads where alarms go. The URL may hold a password, so an error shows no more of it than is safe.
func (d *configDecoder) bus(m *fileMapping, b *policies.BusConfig) {
	if v, ok := m.take("url"); ok {
		s, _ := v.text()
		_, bare := describeNode(v.node)
		switch {
		case bare:
			d.wrong(v, wantBusURL)
		case !validBusURL(s):
			d.refuse(v, maskURL(s), false, wantBusURL)
		}
		b.URL = policies.Secret(s)
	}
	if b.TLS = d.tls(m, "the bus server's certificate", "the system's authorities, or for no TLS"); b.TLS != nil && !d.unread[m.entries["url"].path] && !isSecureURL(b.URL) {
		d.refuse(m.entries["tls"].fileValue, "a TLS section beside a url that asks for none", true, "bus.url: rediss://... (redis:// and an embedded bus speak no TLS)")
	}
	m.text("prefix", &b.Prefix, "the start of the channel names, such as redis:monitor")
	d.password(m, &b.Password, &b.PasswordFile)
	for _, key := range []string{"password_file", "password_env"} {
		v, ok := m.take(key)
		switch {
		case !ok:
		case b.URL == "" && !m.has("url"):
			d.refuse(v, key+" without url", true, "both: the embedded bus has no password")
		case hasPassword(b.URL):
			d.refuse(v, key+" beside a password in url", true, "one of the two")
		}
	}
	d.hmacKeys(m, b)
	m.flag("require_signature", &b.RequireSignature)
	m.end()
}

// isSecureURL reports whether the URL asks for TLS.
func isSecureURL(url policies.Secret) bool { return strings.HasPrefix(url.Reveal(), "rediss://") }

// hmacKeys reads the keys that alarms are signed with.
func (d *configDecoder) hmacKeys(m *fileMapping, b *policies.BusConfig) {
	m.text("hmac_key_file", &b.HMACKeyFile, "the name of a file that holds a key a line, the first signs and all verify")
	v, ok := m.take("hmac_key_file")
	if !ok || d.unread[v.path] {
		return
	}
	b.HMACKeyFile, b.HMACKeys = d.keyFile(v, b.HMACKeyFile)
}

// keyFile reads a file of keys; its name becomes absolute.
func (d *configDecoder) keyFile(v fileValue, named string) (name string, keys []policies.Secret) {
	name = d.absolute(named)
	data, err := d.readFile(name)
	if err != nil {
		d.wrong(v, "a file that can be read: "+name+": "+plainCause(err))
		return name, nil
	}
	if keys, err = policies.ParseHMACKeys(data); err != nil {
		d.wrong(v, "a file with a key a line: "+name+": "+err.Error())
	}
	return name, keys
}

// hasPassword reports whether a bus URL holds a password.
func hasPassword(u policies.Secret) bool {
	opt, err := redis.ParseURL(u.Reveal())
	return err == nil && opt.Password != ""
}

func validBusURL(s string) bool {
	if !strings.HasPrefix(s, "redis://") && !strings.HasPrefix(s, "rediss://") {
		return false
	}
	opt, err := redis.ParseURL(s)
	if err != nil {
		return false
	}
	_, err = policies.ParseAddress(opt.Addr)
	return err == nil
}

// harmlessURL is a URL that has no place for a password: a scheme, a host, a port and a path.
var harmlessURL = regexp.MustCompile(`^([a-z]+:?/{0,2})?[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{0,6})?(/[0-9A-Za-z]{0,8})?$`)

// maskURL is a URL for an error: as it is where it can hold no password, else its scheme and what follows the last @.
func maskURL(s string) string {
	if harmlessURL.MatchString(s) || s == "" {
		return s
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || len(scheme) > 10 {
		return "[redacted]"
	}
	masked := scheme + "://[redacted]"
	if at := strings.LastIndexByte(rest, '@'); at >= 0 && harmlessURL.MatchString(rest[at+1:]) {
		masked += rest[at:]
	}
	return masked
}

var (
	urlUserInfo  = regexp.MustCompile(`(?s)([a-z]+://).*@`)
	bareUserInfo = regexp.MustCompile(`[^\s:/]*:[^\s/]*@`)
)

// withoutPassword drops what stands before an @, as in USER:PASSWORD@HOST, from a text for an error.
func withoutPassword(s string) string {
	return bareUserInfo.ReplaceAllString(urlUserInfo.ReplaceAllString(s, "$1[redacted]@"), "[redacted]@")
}
