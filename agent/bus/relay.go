package bus

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	outputLimit = 32 << 20    // unread output at which a client is cut off
	lastWords   = time.Second // for output that is left when a connection ends
)

// relay joins one client to the server inside. The server never waits for the client: its output goes into a bounded
// buffer at once.
type relay struct {
	client, server net.Conn

	mu     sync.Mutex // guards what follows
	more   *sync.Cond
	out    []byte
	done   bool // no more output comes
	reason string
}

func newRelay(client, server net.Conn) *relay {
	r := &relay{client: client, server: server}
	r.more = sync.NewCond(&r.mu)
	return r
}

// run returns when both directions have ended, with the reason where it was not the client who left.
func (r *relay) run() string {
	var wg sync.WaitGroup
	wg.Go(r.requests)
	wg.Go(r.replies)
	r.write()
	r.close()
	wg.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reason
}

func (r *relay) close() {
	_ = r.client.Close()
	_ = r.server.Close()
}

// requests hands checked requests to the server, each in one piece.
func (r *relay) requests() {
	in := bufio.NewReader(r.client)
	for {
		request, err := readRequest(in)
		if bad := (protocolError)(""); errors.As(err, &bad) {
			r.append([]byte("-ERR Protocol error: " + string(bad) + "\r\n"))
			r.finish("protocol error: " + string(bad))
			return
		}
		if err == nil && len(request) > 0 {
			_, err = r.server.Write(request)
		}
		if err != nil {
			r.finish("")
			return
		}
	}
}

func (r *relay) replies() {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.server.Read(buf)
		if n > 0 && !r.append(buf[:n]) {
			r.close()
			return
		}
		if err != nil {
			r.finish("")
			return
		}
	}
}

// append queues output; false when the client has left too much unread.
func (r *relay) append(p []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.out)+len(p) > outputLimit {
		r.done, r.reason, r.out = true, "it left 32 MiB of output unread", nil
		r.more.Signal()
		return false
	}
	r.out = append(r.out, p...)
	r.more.Signal()
	return true
}

// finish lets write send what is left and end.
func (r *relay) finish(reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.done {
		r.done, r.reason = true, reason
	}
	_ = r.client.SetWriteDeadline(time.Now().Add(lastWords))
	_ = r.server.Close() // the server must not wait for who is gone
	r.more.Signal()
}

func (r *relay) write() {
	for {
		p, ok := r.next()
		if !ok {
			return
		}
		for len(p) > 0 { // in pieces, so that a slow client has the timeout for each
			piece := p[:min(len(p), 256<<10)]
			if _, err := r.client.Write(piece); err != nil {
				return
			}
			p = p[len(piece):]
		}
	}
}

func (r *relay) next() (_ []byte, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.out) == 0 && !r.done {
		r.more.Wait()
	}
	if len(r.out) == 0 {
		return nil, false
	}
	p := r.out
	r.out = nil
	return p, true
}
