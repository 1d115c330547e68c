// Package policies holds the shared nouns of the product as pure values and the rules over them: thresholds, guards,
// modes, windows and config rules. It does no I/O, reads no clock and starts no goroutine; callers pass the time in.
package policies

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Address is where a node listens. The zero value is no address.
type Address struct {
	Host string // a name or an IP; IPv6 without brackets
	Port int    // 1 to 65535
}

// ParseAddress reads HOST:PORT or [IPV6]:PORT.
func ParseAddress(s string) (Address, error) {
	i := strings.LastIndexByte(s, ':')
	if i <= 0 {
		return Address{}, fmt.Errorf("address %q: want HOST:PORT, such as 10.0.0.11:6379", s)
	}
	host := s[:i]
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	} else if strings.Contains(host, ":") {
		return Address{}, fmt.Errorf("address %q: write an IPv6 address in brackets, such as [::1]:6379", s)
	}
	if host == "" || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return Address{}, fmt.Errorf("address %q: want HOST:PORT, such as 10.0.0.11:6379", s)
	}
	port, err := strconv.Atoi(s[i+1:])
	// Redis 6.0 takes a port of 99999 in REPLICAOF: the bound has to be held here.
	if err != nil || port < 1 || port > 65535 {
		return Address{}, fmt.Errorf("address %q: want a port from 1 to 65535", s)
	}
	return Address{Host: host, Port: port}, nil
}

// IsZero reports whether no address was given.
func (a Address) IsZero() bool { return a == Address{} }

// String is HOST:PORT, with brackets around an IPv6 host.
func (a Address) String() string {
	if a.IsZero() {
		return ""
	}
	if strings.Contains(a.Host, ":") {
		return "[" + a.Host + "]:" + strconv.Itoa(a.Port)
	}
	return a.Host + ":" + strconv.Itoa(a.Port)
}

// MarshalText and UnmarshalText carry an Address as HOST:PORT.
func (a Address) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (a *Address) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*a = Address{}
		return nil
	}
	*a, err = ParseAddress(string(b))
	return err
}

// Role is a node's place in replication. The zero value is unknown.
type Role string

// The two roles; INFO's "slave" is translated once, in the probe.
const (
	RoleMaster  Role = "master"
	RoleReplica Role = "replica"
)

// ManagedBy says which other controller repairs an instance's replication.
type ManagedBy string

// Who else may repair an instance.
const (
	ManagedByNone     ManagedBy = "none"
	ManagedBySentinel ManagedBy = "sentinel"
	ManagedByDCS      ManagedBy = "dcs"
)

// ManagedGrace is how long a fault of an instance that another controller manages must have stood before the healer
// may act, unless the policy's grace is longer. Sentinel put a replica back after 15 to 17 s at the slowest setting measured; DCS is slower.
const ManagedGrace = 180 * time.Second

// Node is one server process of an instance.
type Node struct {
	Name        string
	Address     Address // where we reach it
	PeerAddress Address // where its peers reach it; zero: the same as Address
	Role        Role    // as configured: what it should be
}

// Peer is the address that goes into another node's REPLICAOF.
func (n Node) Peer() Address {
	if n.PeerAddress.IsZero() {
		return n.Address
	}
	return n.PeerAddress
}

// Instance is one named Redis deployment as its owners know it.
type Instance struct {
	Name      string
	ManagedBy ManagedBy
	Live      []Action // actions that may run for real; empty: dry run for all
	Ladder    []Action // steps that the instance opted into; only these are ever planned
	Policy    string   // name of its policy; empty: "default"
	Username  string
	Password  Secret
	// PasswordFile is where Password was read; each new connection reads it again. Empty: it came from elsewhere.
	PasswordFile string
	TLS          *TLS
	Nodes        []Node

	// Renamed are the commands that its nodes know under another name.
	Renamed Renames
}

// TLS says how to reach an instance's nodes, or the bus, over TLS. File names are absolute once the config is loaded.
type TLS struct {
	CAFile     string
	CertFile   string
	KeyFile    string
	ServerName string

	// Digest stands for what the files held when the config was loaded, so that a renewed certificate shows as a change.
	Digest string
}

// Node finds a node by name.
func (i Instance) Node(name string) (Node, bool) {
	for _, n := range i.Nodes {
		if n.Name == name {
			return n, true
		}
	}
	return Node{}, false
}

// Master is the node configured as master; the config rules demand exactly one.
func (i Instance) Master() Node {
	for _, n := range i.Nodes {
		if n.Role == RoleMaster {
			return n
		}
	}
	return Node{}
}

// ConfiguredLive reports whether the config file lets the action run for real.
func (i Instance) ConfiguredLive(a Action) bool { return slices.Contains(i.Live, a) }

// Secret is a password. It prints as [redacted] in every format; Reveal is the one way to the text.
type Secret string

// Reveal is the secret's text: only for a connection's options.
func (s Secret) Reveal() string { return string(s) }

func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "[redacted]"
}

// GoString keeps %#v from showing the text.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText keeps JSON and slog from showing the text.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
