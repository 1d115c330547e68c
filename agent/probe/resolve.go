package probe

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"dcshealer/policies"
)

// lookupTimeout bounds all name lookups of one probe together; lookupTTL is how long an answer is used by plain probes.
// (failedTTL when there was none, so that a broken resolver does not slow every probe).
const (
	lookupTimeout = 300 * time.Millisecond
	lookupTTL     = 30 * time.Second
	failedTTL     = 5 * time.Second
)

// A resolver remembers what names resolved to. Its Prober's turn guards it.
type resolver struct {
	lookup func(ctx context.Context, host string) ([]string, error)
	known  map[string]resolved
}

type resolved struct {
	ips []string
	at  time.Time
}

func (k resolved) ttl() time.Duration {
	if len(k.ips) == 0 {
		return failedTTL
	}
	return lookupTTL
}

func newResolver() *resolver {
	return &resolver{lookup: net.DefaultResolver.LookupHost, known: map[string]resolved{}}
}

// resolve fills MasterIPs and OwnIPs. master_host is the string that the replica was given, so that only addresses compare.
func (p *Prober) resolve(ctx context.Context, snap *policies.Snapshot, fresh bool) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	n := p.opt.Node
	snap.OwnIPs = p.names.all(ctx, snap.At, fresh, n.Address.Host, n.Peer().Host)
	if host := snap.Replication.MasterHost; host != "" {
		snap.MasterIPs = p.names.all(ctx, snap.At, fresh, host)
	}
}

// all is the addresses of the hosts, sorted, each once; a host that does not resolve adds none.
func (r *resolver) all(ctx context.Context, now time.Time, fresh bool, hosts ...string) []string {
	var ips []string
	for _, host := range hosts {
		ips = append(ips, r.one(ctx, now, fresh, host)...)
	}
	slices.Sort(ips)
	return slices.Compact(ips)
}

func (r *resolver) one(ctx context.Context, now time.Time, fresh bool, host string) []string {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []string{ip.Unmap().String()}
	}
	if k, ok := r.known[host]; ok && !fresh && now.Sub(k.at) < k.ttl() {
		return k.ips
	}
	found, _ := r.lookup(ctx, host) // an error leaves no addresses, which is what it means here
	k := resolved{ips: canonical(found), at: now}
	r.known[host] = k
	return k.ips
}

func canonical(found []string) []string {
	var ips []string
	for _, f := range found {
		if ip, err := netip.ParseAddr(f); err == nil {
			ips = append(ips, ip.Unmap().String())
		}
	}
	return ips
}
