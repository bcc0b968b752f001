//go:build !linux

package embedded

import "syscall"

// endsWithParent does nothing where the kernel cannot tell a child that its
// parent died. A server that stayed behind refuses the next one with a message
// that holds its process id.
func endsWithParent(attr *syscall.SysProcAttr) *syscall.SysProcAttr { return attr }
