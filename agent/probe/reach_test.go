package probe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"dcshealer/policies"
)

func TestClassify(t *testing.T) {
	dial := func(err error) error { return &dialError{&net.OpError{Op: "dial", Net: "tcp", Err: err}} }
	read := func(err error) error { return &net.OpError{Op: "read", Net: "tcp", Err: err} }
	tests := []struct {
		err  error
		want policies.Reach
	}{
		{dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)), policies.ReachRefused},
		{dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), policies.ReachNoRoute},
		{dial(os.NewSyscallError("connect", syscall.ENETUNREACH)), policies.ReachNoRoute},
		{dial(os.NewSyscallError("connect", syscall.ECONNRESET)), policies.ReachReset},
		{dial(os.ErrDeadlineExceeded), policies.ReachNoRoute},
		{dial(context.DeadlineExceeded), policies.ReachNoRoute},
		{&dialError{&net.DNSError{Err: "no such host", Name: "nowhere", IsNotFound: true}}, policies.ReachNoRoute},
		{read(os.ErrDeadlineExceeded), policies.ReachHung},
		{context.DeadlineExceeded, policies.ReachHung},
		{&TLSError{err: context.DeadlineExceeded}, policies.ReachHung},
		{&TLSError{err: io.EOF}, policies.ReachReset},
		{&TLSError{err: io.EOF, asked: true}, policies.ReachTLS},
		{&TLSError{err: x509.UnknownAuthorityError{}}, policies.ReachTLS},
		{read(syscall.ECONNRESET), policies.ReachReset},
		{io.EOF, policies.ReachReset},
		{errOver, policies.ReachReset},
		{refusal("ERR max number of clients reached"), policies.ReachMaxConns},
		{refusal("NOAUTH Authentication required."), policies.ReachAuth},
		{refusal("NOAUTH HELLO must be called with the client already authenticated"), policies.ReachAuth},
		{fmt.Errorf("failed to authenticate: %w", refusal("WRONGPASS invalid username-password pair")), policies.ReachAuth},
		{refusal("WRONGPASS invalid username-password pair or user is disabled."), policies.ReachAuth},
		{refusal("NOPERM this user has no permissions to run the 'info' command"), policies.ReachAuth},
		{refusal("DENIED Redis is running in protected mode"), policies.ReachAuth},
		{refusal("BUSY Redis is busy running a script."), policies.ReachBusy},
		{refusal("BUSY Valkey is busy running a script."), policies.ReachBusy},
		{refusal("LOADING Redis is loading the dataset in memory"), policies.ReachLoading},
		{refusal("LOADING Valkey is loading the dataset in memory"), policies.ReachLoading},
		{refusal("ERR unknown command 'INFO'"), policies.ReachOdd},
		{oddity("INFO answered nothing"), policies.ReachOdd},
		{errors.New("redis: can't parse reply"), policies.ReachOdd},
		{context.Canceled, policies.ReachOdd},
	}
	for _, tt := range tests {
		got, text := classify(tt.err)
		if got != tt.want || text == "" {
			t.Errorf("%v: got %s (%s), want %s", tt.err, got, text, tt.want)
		}
	}
}

// answers serves one canned reply to whatever comes.
func answers(t *testing.T, reply string) policies.Address {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 4096)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if _, err := io.WriteString(c, reply); err != nil {
						return
					}
				}
			}()
		}
	}()
	return policies.Address{Host: "127.0.0.1", Port: l.Addr().(*net.TCPAddr).Port}
}

func TestProbeOfWhatIsNoNode(t *testing.T) {
	for name, tt := range map[string]struct {
		reply string
		want  policies.Reach
	}{
		"a web server":     {"HTTP/1.1 400 Bad Request\r\n\r\n", policies.ReachOdd},
		"nonsense":         {"$3\r\nabc\r\n", policies.ReachOdd},
		"BUSY":             {"-BUSY Redis is busy running a script.\r\n", policies.ReachBusy},
		"a Sentinel":       {"$63\r\nredis_version:7.0.15\r\nredis_mode:sentinel\r\nrun_id:aaaaaaaaaaaaaaa\r\n", policies.ReachOdd},
		"an endless reply": {"+", policies.ReachHung},
	} {
		t.Run(name, func(t *testing.T) {
			p := New(Options{Instance: "i", Node: policies.Node{Name: "n", Address: answers(t, tt.reply)}, Timeout: 300e6})
			defer p.Close()
			s := p.Probe(t.Context())
			if s.Reach != tt.want || !strings.Contains(s.Err, "i/n") || s.Version != "" {
				t.Errorf("got %s (%s), want %s", s.Reach, s.Err, tt.want)
			}
		})
	}
}
