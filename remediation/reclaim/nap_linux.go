package reclaim

import (
	"syscall"
	"time"
)

// nap sleeps for less than timerGrain, to the microsecond.
func nap(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // cut short by a signal at most
}
