package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

const (
	maxReaders = 100
	readerRoom = 256             // events that may wait for one reader
	replay     = 256             // events kept for readers who come back
	pulseEvery = 2 * time.Second // that the page knows a connection that died in silence, and proxies cut none
)

// event is one thing that happened, as it goes out.
type event struct {
	id   int64
	text []byte
}

// hub hands events to every reader. One that is too slow is cut off: it comes back and has what it missed replayed.
type hub struct {
	mu      sync.Mutex // guards what follows
	next    int64
	recent  []event
	readers map[chan event]bool
	closed  bool
}

func newHub() *hub {
	return &hub{readers: map[chan event]bool{}, next: time.Now().UnixMicro()} // ids rise over restarts, so that nothing old is replayed for new
}

// Publish sends an event of a kind to all who listen: alarm, state or action.
func (s *Server) Publish(kind string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("publish an event %s: %w", kind, err)
	}
	s.events.send(kind, data)
	return nil
}

// send never waits. JSON has no line breaks, which would end the data.
func (h *hub) send(kind string, data []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next++
	e := event{h.next, fmt.Appendf(nil, "id: %d\nevent: %s\ndata: %s\n\n", h.next, kind, data)}
	if h.recent = append(h.recent, e); len(h.recent) > replay {
		h.recent = h.recent[1:]
	}
	for c := range h.readers {
		select {
		case c <- e:
		default:
			close(c)
			delete(h.readers, c)
		}
	}
}

// join begins to listen, with what came after an id.
func (h *hub) join(after int64) (missed []event, c chan event, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.readers) >= maxReaders {
		return nil, nil, &Fault{http.StatusServiceUnavailable, errors.New("too many listen to the events already")}
	}
	for _, e := range h.recent {
		if after > 0 && e.id > after {
			missed = append(missed, e)
		}
	}
	c = make(chan event, readerRoom)
	h.readers[c] = true
	return missed, c, nil
}

func (h *hub) leave(c chan event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.readers[c] {
		close(c)
		delete(h.readers, c)
	}
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for c := range h.readers {
		close(c)
	}
	clear(h.readers)
}

// stream sends events as they come, as text/event-stream.
func (s *Server) stream() http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		after, _ := strconv.ParseInt(r.Header.Get("Last-Event-ID"), 10, 64) // rubbish: from now on
		missed, c, err := s.events.join(after)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		defer s.events.leave(c)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Accel-Buffering", "no")
		out := sender{w, http.NewResponseController(w)}
		ok := out.send([]byte("retry: 2000\n\n")) && out.send(pulseOf(time.Now()))
		for _, e := range missed {
			ok = ok && out.send(e.text)
		}
		pulse := time.NewTicker(pulseEvery)
		defer pulse.Stop()
		for ok {
			select {
			case e, more := <-c:
				ok = more && out.send(e.text)
			case now := <-pulse.C:
				ok = s.allowed(r) && out.send(pulseOf(now))
			case <-r.Context().Done():
				ok = false
			}
		}
	}
}

// pulseOf is an event without an id: the last one that a reader has seen stays what it was.
func pulseOf(now time.Time) []byte {
	return fmt.Appendf(nil, "event: pulse\ndata: {\"at\":%q}\n\n", now.UTC().Format(time.RFC3339Nano))
}

// allowed asks again whether a long request may go on: its session may have ended.
func (s *Server) allowed(r *http.Request) bool {
	return s.opt.Open && localHost(r.Host) || s.known(r, s.opt.Token())
}

// sender writes pieces at once; a reader that takes none for 10 s is gone.
type sender struct {
	w http.ResponseWriter
	c *http.ResponseController
}

func (s sender) send(text []byte) bool {
	_ = s.c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	if _, err := s.w.Write(text); err != nil {
		return false
	}
	return s.c.Flush() == nil
}
