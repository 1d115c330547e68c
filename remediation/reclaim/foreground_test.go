package reclaim

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// foregroundEnv makes the test binary the application whose latency is measured: a process of its own, that the scheduler of ours does
// not hold up.
const foregroundEnv = "DCSHEALER_FOREGROUND"

// foreground runs it while during runs, and returns the length of each of its calls.
func foreground(b *testing.B, addr string, during func()) (all []time.Duration) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), foregroundEnv+"="+addr)
	cmd.Stderr = os.Stderr
	until, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	r := bufio.NewReader(out)
	if _, err := r.ReadString('\n'); err != nil {
		b.Fatalf("the foreground does not start: %v", err)
	}
	during()
	_ = until.Close()
	lengths, err := io.ReadAll(r)
	if err := cmd.Wait(); err != nil {
		b.Fatalf("the foreground: %v", err)
	}
	if err != nil || len(lengths) == 0 {
		b.Fatalf("the foreground measured nothing: %v", err)
	}
	for ; len(lengths) >= 8; lengths = lengths[8:] {
		all = append(all, time.Duration(binary.NativeEndian.Uint64(lengths)))
	}
	return all
}

// beForeground sends GETs and SETs, waits a moment after each as an application does, and writes their lengths once stdin ends. Its
// socket blocks, so that what it measures is the server and not the runtime of Go.
func beForeground(addr string, stdin io.Reader, stdout io.Writer) error {
	done := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, stdin); close(done) }()
	runtime.LockOSThread()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	f, err := c.(*net.TCPConn).File() // in blocking mode
	if err != nil {
		return err
	}
	defer f.Close()
	fd := int(f.Fd())
	var all []byte
	answer := make([]byte, 512)
	fmt.Fprintln(stdout, "started")
	for i := 0; ; i++ {
		select {
		case <-done:
			_, err := stdout.Write(all)
			return err
		default:
		}
		call := fmt.Sprintf("GET foreground:%d\r\n", i%1000)
		if i%2 == 0 {
			call = fmt.Sprintf("SET foreground:%d value\r\n", i%1000)
		}
		start := time.Now()
		if _, err := syscall.Write(fd, []byte(call)); err != nil {
			return err
		}
		n, err := syscall.Read(fd, answer)
		took := time.Since(start)
		if text := string(answer[:max(n, 0)]); err != nil || !strings.HasSuffix(text, "\r\n") || text[0] == '-' {
			return fmt.Errorf("%q: answer %q, %w", call, text, err)
		}
		all = binary.NativeEndian.AppendUint64(all, uint64(took))
		pause := syscall.NsecToTimespec(200_000)
		_ = syscall.Nanosleep(&pause, nil)
	}
}
