package bus

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"dcshealer/policies"
)

// proxy stands between the clients of a bus and its server, and can do to them what networks do.
type proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns map[*proxied]bool
	down  bool // new connections are closed at once
}

// proxied is one connection through it.
type proxied struct {
	client, server net.Conn

	mu   sync.Mutex
	mode proxyMode
}

type proxyMode int

const (
	passing proxyMode = iota
	hole              // nothing passes, either way, and nobody is told
	deaf              // pings are answered; what the server sends does not come
)

func startProxy(t testing.TB, target string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, target: target, conns: map[*proxied]bool{}}
	p.wg.Go(p.accept)
	t.Cleanup(func() { _ = l.Close(); p.each(func(c *proxied) { c.close() }); p.wg.Wait() })
	return p
}

func (p *proxy) url() policies.Secret {
	return policies.Secret("redis://" + p.listener.Addr().String())
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		c := &proxied{client: client, server: server}
		p.mu.Lock()
		if p.down {
			c.close()
		}
		p.conns[c] = true
		p.mu.Unlock()
		p.wg.Go(func() { c.requests(); p.forget(c) })
		p.wg.Go(func() { c.replies(); c.close() })
	}
}

func (p *proxy) forget(c *proxied) {
	c.close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *proxy) each(f func(*proxied)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		f(c)
	}
}

// cut closes every connection; with down none is let in until the next cut.
func (p *proxy) cut(down bool) {
	p.mu.Lock()
	p.down = down
	p.mu.Unlock()
	p.each(func(c *proxied) { c.close() })
}

func (c *proxied) close() { _ = c.client.Close(); _ = c.server.Close() }

func (c *proxied) set(m proxyMode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mode = m
}

func (c *proxied) is() proxyMode {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mode
}

func (c *proxied) requests() {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.client.Read(buf)
		if err != nil {
			return
		}
		switch m := c.is(); {
		case m == deaf && strings.Contains(strings.ToLower(string(buf[:n])), "ping"):
			_, err = io.WriteString(c.client, "*2\r\n$4\r\npong\r\n$0\r\n\r\n")
		case m == passing:
			_, err = c.server.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

func (c *proxied) replies() {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.server.Read(buf)
		if err != nil {
			return
		}
		if c.is() != passing {
			continue
		}
		if _, err := c.client.Write(buf[:n]); err != nil {
			return
		}
	}
}
