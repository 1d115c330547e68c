package notify

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrLed says that another process tells the receivers.
var ErrLed = errors.New("the notifications of this state_dir are told by another process")

// Lead makes this process the one that tells the receivers of a state_dir, until free; ErrLed where there is one. The kernel frees it when
// the process ends in any way.
func Lead(stateDir string) (free func(), err error) {
	path := filepath.Join(stateDir, "locks", ".notify.lock")
	doing := "take the lock of those that notify, " + path
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("%s: %w", doing, err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; give the folder to this user, or name another state_dir", doing, err)
	}
	if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLed
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", doing, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}
