package main

import "syscall"

// childAttributes keep the terminal's Ctrl-C from the children, so that they stop in order, and end them with this
// process should it be killed: the kernel sends the signal when the thread that started them ends.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
