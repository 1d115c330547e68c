package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"

	"dcshealer/policies"
)

// A dialError is met before there is a connection.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// A refusal is an error reply that ends the session. It is not a redis.Error, so that go-redis gives up at it
// instead of trying the same password again by AUTH, which would hide what the server said first.
type refusal string

func (r refusal) Error() string { return string(r) }

// An oddity is an answer that no Redis gives.
type oddity string

func (o oddity) Error() string { return string(o) }

// refusedHello makes a refusal of those errors of HELLO after which nothing else can be read.
func refusedHello(err error) error {
	if err == nil || !isReply(err) {
		return err
	}
	if byPrefix(err.Error()) == policies.ReachAuth || byPrefix(err.Error()) == policies.ReachMaxConns {
		return refusal(err.Error())
	}
	return err
}

// prefixes maps the beginning of an error reply to what it says of the node; the rest of the text differs by version.
var prefixes = []struct {
	prefix string
	reach  policies.Reach
}{
	{"LOADING", policies.ReachLoading},
	{"BUSY", policies.ReachBusy},
	{"NOAUTH", policies.ReachAuth},
	{"WRONGPASS", policies.ReachAuth},
	{"NOPERM", policies.ReachAuth},
	{"DENIED", policies.ReachAuth}, // protected mode
	{"ERR max number of clients", policies.ReachMaxConns},
	{"ERR invalid password", policies.ReachAuth},
	{"ERR Client sent AUTH, but no password is set", policies.ReachAuth},
	{"ERR AUTH <password> called without any password", policies.ReachAuth},
}

func byPrefix(reply string) policies.Reach {
	for _, p := range prefixes {
		if strings.HasPrefix(reply, p.prefix) {
			return p.reach
		}
	}
	return policies.ReachOdd
}

// classify says what an error that kept INFO from being read means, and puts it in words for a person.
func classify(err error) (policies.Reach, string) {
	var dial *dialError
	var handshake *TLSError
	switch {
	case errors.Is(err, context.Canceled):
		return policies.ReachOdd, "the probe was cancelled before the node answered"
	case errors.As(err, &dial):
		return classifyDial(dial)
	case isTimeout(err):
		return policies.ReachHung, hungText(errors.As(err, &handshake))
	case IsTLS(err):
		return policies.ReachTLS, handshakeText(err)
	case isReset(err):
		return policies.ReachReset, "the connection was closed without an answer: the node is going down, or its port wants TLS (" + err.Error() + ")"
	}
	reach := byPrefix(reply(err))
	return reach, replyText(reach, err)
}

// reply is the server's own text in err: go-redis puts words of its own before the answer to AUTH.
func reply(err error) string {
	var sent redis.Error
	var r refusal
	switch {
	case errors.As(err, &r):
		return string(r)
	case errors.As(err, &sent):
		return sent.Error()
	}
	return err.Error()
}

func classifyDial(err *dialError) (policies.Reach, string) {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return policies.ReachRefused, "connection refused: the process is gone, or the port is wrong"
	}
	if isReset(err) {
		return policies.ReachReset, "the connection was closed while it was made: " + err.Error()
	}
	if isTimeout(err) {
		return policies.ReachNoRoute, "connecting timed out: the host or the network is gone"
	}
	return policies.ReachNoRoute, err.Error()
}

func hungText(handshake bool) string {
	if handshake {
		return "it accepts connections and does not answer TLS: the process is stopped, or the port is plaintext"
	}
	return "it accepts connections and does not answer in time: the process is stopped, swaps, or runs a long command"
}

// handshakeText leaves out the words that go-redis puts before it.
func handshakeText(err error) string {
	var handshake *TLSError
	errors.As(err, &handshake)
	return handshake.Error()
}

func replyText(reach policies.Reach, err error) string {
	switch reach {
	case policies.ReachAuth:
		return err.Error() + " (check the instance's username and password, and the user's ACL rules: README.md lists what a probe needs)"
	case policies.ReachBusy:
		return "it is in a script past its time limit, nothing else passes: " + err.Error()
	}
	return err.Error()
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ETIMEDOUT) || errors.As(err, &n) && n.Timeout()
}

func isReset(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errOver) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNABORTED)
}
