package main

import (
	"bytes"

	"github.com/goccy/go-yaml/ast"

	"dcshealer/policies"
)

// dashboard reads what protects the listen address.
func (d *configDecoder) dashboard(m *fileMapping, to *policies.DashboardConfig) {
	m.text("token_file", &to.TokenFile, "the name of a file that holds the token")
	if v, ok := m.take("token_file"); ok && !d.unread[v.path] {
		to.TokenFile = d.absolute(to.TokenFile)
		to.Token = d.token(v, to.TokenFile)
	}
	if v, ok := m.take("tls"); ok {
		d.dashboardTLS(v, to)
	}
	m.end()
}

func (d *configDecoder) token(v fileValue, name string) policies.Secret {
	data, err := d.readFile(name)
	if err != nil {
		d.wrong(v, "a file that can be read: "+name+": "+plainCause(err))
		return ""
	}
	token, err := policies.ParseSecret(bytes.TrimRight(data, " \t\r\n"))
	if err != nil {
		d.wrong(v, "a file that holds the token and nothing else: "+name+" "+err.Error()+"; make one with: openssl rand -hex 32")
	}
	return token
}

func (d *configDecoder) dashboardTLS(v fileValue, to *policies.DashboardConfig) {
	const want = "a mapping such as {cert_file: dashboard.pem, key_file: dashboard.key}; leave the key out for no TLS"
	if _, null := v.node.(*ast.NullNode); null {
		d.wrong(v, want)
		return
	}
	s := d.mapping(v, want)
	cert, key := d.pemFile(s, "cert_file", &to.CertFile), d.pemFile(s, "key_file", &to.KeyFile)
	s.end()
	if !s.has("cert_file") && !s.has("key_file") {
		d.wrong(v, want)
		return
	}
	d.keyPair(s, cert, key)
}
