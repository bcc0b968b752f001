package embedded

import "golang.org/x/sys/unix"

// memoryBytes is the memory of the machine, 0 if unknown.
func memoryBytes() int64 {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return 0
	}
	return int64(uint64(info.Totalram) * uint64(info.Unit)) //nolint:unconvert // 32 bits on some machines
}
