package journal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errHeld says that another holder has the lock.
var errHeld = errors.New("held by another process")

// lockTick is how often a held lock is asked for again while waiting.
const lockTick = 10 * time.Millisecond

// lockFile takes the exclusive lock of a file, which it creates when missing, within wait (0: one try); errHeld when it is not to
// be had. Closing the file frees it, as does the kernel when the process ends in any way. The file itself stays: two holders
// could each lock a file of the same name if it were removed between them.
func lockFile(ctx context.Context, path string, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(ctx, f, unix.LOCK_EX, wait); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func flock(ctx context.Context, f *os.File, how int, wait time.Duration) error {
	give := time.NewTimer(wait)
	defer give.Stop()
	tick := time.NewTicker(lockTick)
	defer tick.Stop()
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		case wait == 0:
			return errHeld
		}
		select {
		case <-tick.C:
		case <-give.C:
			return errHeld
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sign writes our pid into a lock file that we hold, for the error text of whoever comes next.
func sign(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder names the process that signed a lock file.
func holder(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "an unknown process"
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, 32))
	if pid, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
		return "process " + strconv.Itoa(pid)
	}
	return "an unknown process"
}
