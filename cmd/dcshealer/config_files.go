package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"regexp"

	"github.com/goccy/go-yaml/ast"

	"dcshealer/policies"
)

// stateDir makes the folder's name absolute. It need not exist yet, but nothing else may stand there.
func (d *configDecoder) stateDir(m *fileMapping, dir *string) {
	*dir = d.absolute(*dir)
	v, ok := m.take("state_dir")
	if !ok || d.unread[v.path] {
		return
	}
	info, err := d.stat(*dir)
	switch {
	case err == nil && !info.IsDir():
		d.wrong(v, "a folder: "+*dir+" is a file")
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		d.wrong(v, "a folder that can be reached: "+*dir+": "+plainCause(err))
	}
}

// password reads a password from the file or the environment variable that the config names; from is the file, absolute.
func (d *configDecoder) password(m *fileMapping, to *policies.Secret, from *string) {
	var file, env string
	m.text("password_file", &file, "the name of a file that holds the password")
	m.text("password_env", &env, "the name of an environment variable that holds the password")
	v, _ := m.take("password_env")
	switch {
	case m.has("password_file") && m.has("password_env"):
		d.refuse(v, "password_file and password_env", true, "one of the two")
	case file != "":
		*to, *from = d.passwordFile(m, file), d.absolute(file)
	case env != "" && !d.unread[v.path]:
		*to = d.passwordEnv(v, env)
	}
}

func (d *configDecoder) passwordFile(m *fileMapping, named string) policies.Secret {
	v, _ := m.take("password_file")
	if d.unread[v.path] {
		return ""
	}
	name := d.absolute(named)
	data, err := d.readFile(name)
	if err != nil {
		d.wrong(v, "a file that can be read: "+name+": "+plainCause(err))
		return ""
	}
	secret, err := policies.ParseSecret(data)
	switch {
	case secret == "" && len(bytes.TrimSpace(data)) == 0:
		d.wrong(v, "a file that holds the password: "+name+" is empty")
	case err != nil:
		d.wrong(v, "a file that holds the password and nothing else: "+name+" "+err.Error())
	}
	return secret
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// passwordEnv shows only what looks like a variable's name: people write the password itself there.
func (d *configDecoder) passwordEnv(v fileValue, name string) policies.Secret {
	if !envName.MatchString(name) {
		d.refuse(v, "something that is no variable's name", true, "the name of the environment variable that holds the password")
		return ""
	}
	secret, set := d.lookupEnv(name)
	if !set || secret == "" {
		d.wrong(v, "an environment variable that is set and not empty")
	}
	return policies.Secret(secret)
}

// tls reads how to reach the nodes, or the bus, over TLS; nil: plainly, or by what without says of a key that is not there.
func (d *configDecoder) tls(m *fileMapping, of, without string) *policies.TLS {
	v, ok := m.take("tls")
	if !ok {
		return nil
	}
	want := "a mapping such as {ca_file: ca.pem}, {} for the system's authorities; leave the key out for " + without
	if _, null := v.node.(*ast.NullNode); null { // both readings of an empty key would be a guess
		d.wrong(v, want)
		return nil
	}
	t, s := &policies.TLS{}, d.mapping(v, want)
	ca := d.pemFile(s, "ca_file", &t.CAFile)
	cert := d.pemFile(s, "cert_file", &t.CertFile)
	key := d.pemFile(s, "key_file", &t.KeyFile)
	s.text("server_name", &t.ServerName, "the name in "+of)
	s.end()
	if ca != nil && !x509.NewCertPool().AppendCertsFromPEM(ca) {
		d.wrong(s.entries["ca_file"].fileValue, "a file with at least one certificate in PEM form")
	}
	d.keyPair(s, cert, key)
	t.Digest = digest(ca, cert, key)
	return t
}

// digest stands for the content of files: another one means that they were renewed. The lengths keep what is one file's from being another's.
func digest(files ...[]byte) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%d:", len(f))
		h.Write(f)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// keyPair checks that the client certificate and its key come together and belong together.
func (d *configDecoder) keyPair(s *fileMapping, cert, key []byte) {
	for _, pair := range [][2]string{{"cert_file", "key_file"}, {"key_file", "cert_file"}} {
		if v := s.entries[pair[0]].fileValue; s.has(pair[0]) && !s.has(pair[1]) {
			d.refuse(v, pair[0]+" without "+pair[1], true, "both: a certificate needs its key")
		}
	}
	if cert == nil || key == nil {
		return
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		d.refuse(s.entries["cert_file"].fileValue, "a certificate that cannot be used with its key ("+err.Error()+")", true,
			"a certificate and its private key in PEM form")
	}
}

// pemFile reads a file name, makes it absolute and returns the file's content, or nil.
func (d *configDecoder) pemFile(m *fileMapping, key string, to *string) []byte {
	m.text(key, to, "the name of a file in PEM form")
	v, ok := m.take(key)
	if !ok || d.unread[v.path] {
		return nil
	}
	*to = d.absolute(*to)
	data, err := d.readFile(*to)
	if err != nil {
		d.wrong(v, "a file that can be read: "+*to+": "+plainCause(err))
		return nil
	}
	return append([]byte{}, data...)
}
