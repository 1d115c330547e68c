package probe

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"dcshealer/policies"
)

// maxPassword bounds what is read of a password file, in bytes.
const maxPassword = 1 << 20

// A Password is what connections authenticate with. Where it comes from a file each new connection reads that again, so that it can be
// changed without a restart. A file that cannot be used changes nothing; and one that says what the server does not take, as while the two
// are changed one after the other, is tried in turn with what the server took last. It is safe for concurrent use.
type Password struct {
	mu      sync.Mutex // guards what follows
	file    string     // empty: it is what it is
	read    policies.Secret
	taken   policies.Secret // what the server took last, or what there was at the start
	refused policies.Secret // what the file says, where the server did not take that; empty: it did, or was not asked
}

// NewPassword is a password, and the file that it was read from; empty: none.
func NewPassword(s policies.Secret, file string) *Password {
	return &Password{file: file, read: s, taken: s}
}

// Set is the password, and the file that it was read from, by another config.
func (p *Password) Set(s policies.Secret, file string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.file, p.read, p.refused = file, s, ""
}

// Next is what the next connection is to send; empty: it does not authenticate.
func (p *Password) Next() policies.Secret {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.file != "" {
		if s, err := readPassword(p.file); err == nil {
			p.read = s
		}
	}
	return p.choose()
}

// choose is what the file says, or what worked before where the server does not take that. The caller holds p.mu.
func (p *Password) choose() policies.Secret {
	if p.refused == p.read && p.taken != "" {
		return p.taken
	}
	return p.read
}

// Took notes that a server took the password that Next gave.
func (p *Password) Took(s policies.Secret) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = s
	if s == p.read {
		p.refused = ""
	}
}

// Met looks at what a connection with the password met, and reports whether another one is worth a try.
func (p *Password) Met(s policies.Secret, err error) (another bool) {
	if err == nil || !notTaken(reply(err)) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s == p.read {
		p.refused = s
	} else {
		p.refused = "" // what was taken before is not any longer: the file's turn
	}
	return p.choose() != s
}

// notTaken reports an answer that another password could change.
func notTaken(text string) bool {
	return strings.HasPrefix(text, "WRONGPASS") || strings.HasPrefix(text, "NOAUTH")
}

// readPassword reads a file that holds one password.
func readPassword(file string) (policies.Secret, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // it is only read
	data, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	if err != nil {
		return "", err
	}
	if len(data) > maxPassword {
		return "", errors.New("has more than 1 MiB")
	}
	s, err := policies.ParseSecret(data)
	if err != nil {
		return "", fmt.Errorf("%s %w", file, err)
	}
	return s, nil
}
