// Package cpu tells benchmarks how much processor time was used: on a machine that
// others use as well, the clock says little.
package cpu

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// tick is what Linux counts processor time in.
const tick = 10 * time.Millisecond

// Used is the time that this process and its children have run so far, in user and in
// system mode. A child is a local ClickHouse for instance. It is 0 where there is no /proc.
func Used() time.Duration {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0
	}
	var used time.Duration
	self := strconv.Itoa(os.Getpid())
	for _, path := range paths {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		// After the name, which may hold anything: state ppid … utime stime.
		fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		if len(fields) < 13 || fields[1] != self && filepath.Base(filepath.Dir(path)) != self {
			continue
		}
		for _, f := range fields[11:13] {
			n, _ := strconv.ParseInt(f, 10, 64) // the kernel writes numbers
			used += time.Duration(n) * tick
		}
	}
	return used
}

// Start begins to measure. Calling end reports the processor time of each of n things,
// under the unit "cpu-µs/NAME".
func Start(b *testing.B, name string) (end func(n int)) {
	begun := Used()
	return func(n int) {
		b.ReportMetric(float64((Used()-begun).Microseconds())/float64(n), "cpu-µs/"+name)
	}
}
