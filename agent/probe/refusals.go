package probe

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// refusalsMax is how many entries of ACL LOG are asked for.
const refusalsMax = 10

// asksRefusals reports whether ACL LOG is worth asking: error counters tell the same for less. The server logs its refusal to show the log,
// too, so that one run of it is asked in vain only once.
func (p *Prober) asksRefusals(snap *policies.Snapshot) bool {
	return !snap.Stats.WrongPassErrors.Known && p.noLog != snap.RunID
}

// refusals takes the answer to ACL LOG; cmd is nil when it was not asked.
func (p *Prober) refusals(snap *policies.Snapshot, cmd *redis.Cmd) {
	if cmd == nil {
		return
	}
	reply, err := cmd.Slice()
	if err != nil {
		if deniesLog(err.Error()) {
			p.noLog = snap.RunID
		}
		return
	}
	snap.Refusals = parseRefusals(reply)
}

// deniesLog tells a missing right or command from an error that passes.
func deniesLog(text string) bool {
	text = strings.ToLower(text)
	return strings.HasPrefix(text, "noperm") || strings.HasPrefix(text, "err unknown")
}

// parseRefusals reads the entries of ACL LOG, newest first. One without a reason, an age or the address of a peer is left out.
func parseRefusals(reply []any) []policies.Refusal {
	var refusals []policies.Refusal
	for _, item := range reply {
		entry, _ := item.([]any)
		if r, ok := parseRefusal(flat(entry)); ok {
			refusals = append(refusals, r)
		}
	}
	return refusals
}

// flat reads name, value, name, value; a value that is not text is left out.
func flat(entry []any) map[string]string {
	fields := map[string]string{}
	for i := 0; i+1 < len(entry); i += 2 {
		name, ok := entry[i].(string)
		value, ok2 := entry[i+1].(string)
		if ok && ok2 {
			fields[name] = value
		}
	}
	return fields
}

// parseRefusal keeps what was refused to whom. The object of a refused key or channel is its name, which is nobody's business.
func parseRefusal(fields map[string]string) (policies.Refusal, bool) {
	r := policies.Refusal{Host: peerHost(fields["client-info"]), Reason: fields["reason"]}
	age, err := strconv.ParseFloat(fields["age-seconds"], 64)
	if r.Host == "" || r.Reason == "" || err != nil || !(age >= 0 && age < neverLinked) {
		return policies.Refusal{}, false
	}
	r.Age = time.Duration(age * float64(time.Second))
	switch r.Reason {
	case "auth":
		r.Object = strings.ToUpper(fields["object"]) // as the peer typed it
	case "command":
		r.Object = fields["object"]
	}
	return r, true
}

// peerHost is the address in a line of client fields; "" when there is none, as for a Unix socket.
func peerHost(clientInfo string) string {
	host, _, err := net.SplitHostPort(clientFields(clientInfo)["addr"])
	if err != nil {
		return ""
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	return ip.Unmap().String()
}
