package embedded

import "syscall"

// endsWithParent makes the kernel stop a child when the thread that started it
// ends, which process.go keeps for as long as the child runs: when we are
// killed, the server must not stay behind with the directory and the ports.
func endsWithParent(attr *syscall.SysProcAttr) *syscall.SysProcAttr {
	attr.Pdeathsig = syscall.SIGTERM
	return attr
}
