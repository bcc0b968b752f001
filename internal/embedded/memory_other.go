//go:build !linux

package embedded

// memoryBytes is the memory of the machine, 0 if unknown.
func memoryBytes() int64 { return 0 }
