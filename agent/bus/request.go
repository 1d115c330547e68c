package bus

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/alicebob/miniredis/v2/server"

	"dcshealer/policies"
)

const (
	maxArgs    = 1024
	maxRequest = 4 << 20 // bytes of one request, and so of one message
	maxLine    = 64
)

// protocolError is a request that the embedded server must not see: a length below 1 or beyond reason makes it panic.
type protocolError string

func (p protocolError) Error() string { return string(p) }

// readRequest reads one request, an array of bulk strings, and returns it as it came. An inline command (what a person
// types into nc) is turned into an array; an empty line gives none.
func readRequest(in *bufio.Reader) ([]byte, error) {
	line, err := readLine(in)
	if err != nil || line == "" {
		return nil, err
	}
	if line[0] != '*' {
		return encodeRequest(strings.Fields(line)), nil
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil || n < -1 || n > maxArgs {
		return nil, protocolError("invalid multibulk length")
	}
	if n <= 0 {
		return nil, nil
	}
	request := fmt.Appendf(nil, "*%d\r\n", n)
	for range n {
		if request, err = readBulk(in, request); err != nil {
			return nil, err
		}
	}
	return request, nil
}

func readBulk(in *bufio.Reader, request []byte) ([]byte, error) {
	line, err := readLine(in)
	if err != nil {
		return nil, err
	}
	if line == "" || line[0] != '$' {
		return nil, protocolError("expected '$'")
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil || n < 0 || n > maxRequest || len(request)+n > maxRequest {
		return nil, protocolError("invalid bulk length")
	}
	request = fmt.Appendf(request, "$%d\r\n", n)
	start := len(request)
	request = slices.Grow(request, n+2)[:start+n+2]
	if _, err := io.ReadFull(in, request[start:]); err != nil {
		return nil, err
	}
	if string(request[start+n:]) != "\r\n" {
		return nil, protocolError("a bulk string without its end")
	}
	return request, nil
}

// readLine reads up to a line break, of a length that no header exceeds; an inline command is cut short by that too.
func readLine(in *bufio.Reader) (string, error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		if err == bufio.ErrBufferFull {
			return "", protocolError("too big a line")
		}
		return "", err
	}
	s := strings.TrimRight(string(line), "\r\n")
	if len(s) > maxLine && (s[0] == '*' || s[0] == '$') {
		return "", protocolError("too big a length")
	}
	return s, nil
}

func encodeRequest(args []string) []byte {
	if len(args) == 0 {
		return nil
	}
	request := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		request = fmt.Appendf(request, "$%d\r\n%s\r\n", len(a), a)
	}
	return request
}

// embeddedCommands are all that a bus needs. The others of miniredis (scripts, transactions, blocking reads) could hold
// its lock for good, or fill this process's memory.
var embeddedCommands = []string{"AUTH", "CLIENT", "COMMAND", "ECHO", "HELLO", "INFO", "PING", "PSUBSCRIBE", "PUBLISH", "PUBSUB",
	"PUNSUBSCRIBE", "QUIT", "SUBSCRIBE", "UNSUBSCRIBE", "XACK", "XADD", "XAUTOCLAIM", "XGROUP", "XLEN", "XRANGE", "XREADGROUP", "XREVRANGE"}

// allowed answers every other command with an error, and those of the stream itself, before miniredis sees them.
func allowed(stream *alarmStream) server.Hook {
	return func(c *server.Peer, cmd string, args ...string) (done bool) {
		switch {
		case !slices.Contains(embeddedCommands, cmd):
			c.WriteError("ERR unknown command '" + policies.Printable(cmd, 40) + "' on an embedded bus; set bus.url to use a server")
			return true
		case slices.Contains(patternCommands, cmd) && slices.ContainsFunc(args, isUnsafePattern):
			c.WriteError("ERR patterns of an embedded bus know * and ? only")
			return true
		}
		return stream.hook(c, cmd, args)
	}
}

var patternCommands = []string{"PSUBSCRIBE", "PUNSUBSCRIBE", "PUBSUB"}

// isUnsafePattern reports a pattern that miniredis may turn into no valid regular expression, on which it panics.
func isUnsafePattern(p string) bool { return !utf8.ValidString(p) || strings.ContainsAny(p, `[]\`) }
