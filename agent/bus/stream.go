package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"dcshealer/agent/probe"
	"dcshealer/policies"
)

const (
	streamCap      = 100_000         // entries that are kept, about 33 MB; the server may keep a few more
	catchUpPage    = 500             // entries per XRANGE
	catchUpTimeout = 5 * time.Second // the live connection is not read meanwhile
	fieldChannel   = "channel"
	fieldPayload   = "payload"
)

func (b *Bus) addToStream(ctx context.Context, c redis.Cmdable, channel string, payload []byte) *redis.StringCmd {
	return c.XAdd(ctx, &redis.XAddArgs{Stream: policies.StreamKey(b.prefix), MaxLen: streamCap, Approx: true,
		Values: []any{fieldChannel, channel, fieldPayload, payload}})
}

// StreamFaults is how often the stream could not be written or read since the start, by kind (OOM, NOPERM, network ...).
func (b *Bus) StreamFaults() map[string]int64 { return b.stream.counts() }

// streamFaults counts the stream's faults and logs each kind once.
type streamFaults struct {
	mu sync.Mutex
	n  map[string]int64
}

func (f *streamFaults) refused(log *slog.Logger, what string, err error) {
	kind := errorKind(err)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.n == nil {
		f.n = map[string]int64{}
	}
	if f.n[what+": "+kind]++; f.n[what+": "+kind] == 1 {
		log.Warn(what+"; alarms still go out and come in, but a reader that is away misses them", "cause", kind, "err", err)
	}
}

func (f *streamFaults) counts() map[string]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum := map[string]int64{}
	for k, n := range f.n {
		sum[k[strings.LastIndex(k, " ")+1:]] += n
	}
	return sum
}

// errorKind is the first word of a server's error, whose tail differs by version, or what kept it from answering.
func errorKind(err error) string {
	var reply redis.Error
	var network net.Error
	switch {
	case errors.As(err, &reply):
		kind, tail, _ := strings.Cut(reply.Error(), " ")
		if kind == "ERR" && strings.HasPrefix(tail, "unknown command") {
			return "unknown-command"
		}
		return policies.Printable(kind, 40)
	case errors.As(err, &network) && network.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case probe.IsTLS(err):
		return "tls"
	}
	return "network"
}

// lastID is the id of the stream's newest entry; the zero id of an empty stream.
func (b *Bus) lastID(ctx context.Context, c redis.Cmdable) (streamID, error) {
	entries, err := c.XRevRangeN(ctx, policies.StreamKey(b.prefix), "+", "-", 1).Result()
	if err != nil || len(entries) == 0 {
		return streamID{}, err
	}
	return parseStreamID(entries[0].ID)
}

// errNoRoom ends the reading of a stream whose reader has to take what it got first.
var errNoRoom = errors.New("no room for more of the stream")

// since hands over the stream's entries after an id, oldest first, and returns the id of the last. Entries without an
// alarm id are left out: nothing could tell them from those that were already received. It ends with errNoRoom where room says so.
func (b *Bus) since(ctx context.Context, c redis.Cmdable, after streamID, room func() bool, take func(policies.Message)) (streamID, error) {
	for {
		if !room() {
			return after, errNoRoom
		}
		entries, err := c.XRangeN(ctx, policies.StreamKey(b.prefix), after.next().String(), "+", catchUpPage).Result()
		if err != nil {
			return after, err
		}
		for _, e := range entries {
			id, err := parseStreamID(e.ID)
			if err != nil {
				return after, err
			}
			after = id
			if m, ok := entryMessage(e, id); ok {
				take(m)
			}
		}
		if len(entries) < catchUpPage {
			return after, nil
		}
	}
}

func entryMessage(e redis.XMessage, id streamID) (policies.Message, bool) {
	channel, _ := e.Values[fieldChannel].(string)
	payload, _ := e.Values[fieldPayload].(string)
	a, err := policies.DecodeAlarm([]byte(payload))
	if err != nil || a.ID == "" || channel == "" {
		return policies.Message{}, false
	}
	at := time.UnixMilli(int64(min(id.ms, math.MaxInt64))).UTC()
	return policies.Message{Channel: channel, Payload: []byte(payload), At: at, Stored: true}, true
}

// streamID is an entry's id: ms-seq. Redis 6.0 knows no exclusive range, so the next id is calculated here.
type streamID struct{ ms, seq uint64 }

func parseStreamID(s string) (streamID, error) {
	ms, seq, _ := strings.Cut(s, "-")
	a, err := strconv.ParseUint(ms, 10, 64)
	b, err2 := strconv.ParseUint(seq, 10, 64)
	if err := errors.Join(err, err2); err != nil {
		return streamID{}, fmt.Errorf("stream id %.40q: %w", s, err)
	}
	return streamID{a, b}, nil
}

func (i streamID) String() string {
	return strconv.FormatUint(i.ms, 10) + "-" + strconv.FormatUint(i.seq, 10)
}

func (i streamID) next() streamID {
	if i.seq == math.MaxUint64 {
		return streamID{i.ms + 1, 0}
	}
	return streamID{i.ms, i.seq + 1}
}

func (i streamID) less(j streamID) bool { return i.ms < j.ms || i.ms == j.ms && i.seq < j.seq }
