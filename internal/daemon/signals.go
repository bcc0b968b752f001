package daemon

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// exitForced is the exit code after the second signal, the shell's for SIGINT.
const exitForced = 130

// Signals returns a context that ends with the first SIGINT or SIGTERM. The
// second one exits the process at once: whoever presses Ctrl-C twice does not
// want to wait. Call stop when the work is done.
func Signals(parent context.Context, stderr io.Writer) (ctx context.Context, stop func()) {
	ch := make(chan os.Signal, 2)
	signal.Notify(ch, syscall.SIGINT, syscall.SIGTERM)
	ctx, end := watchSignals(parent, ch, stderr, os.Exit)
	return ctx, func() {
		signal.Stop(ch)
		end()
	}
}

func watchSignals(parent context.Context, ch <-chan os.Signal, stderr io.Writer, exit func(int)) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-stopped:
				return
			case sig := <-ch:
				if n > 0 {
					_, _ = fmt.Fprintf(stderr, "%s again: exiting at once\n", sig)
					exit(exitForced)
					return
				}
				_, _ = fmt.Fprintf(stderr, "%s: stopping; once more exits at once\n", sig)
				cancel()
			}
		}
	}()
	return ctx, func() {
		close(stopped)
		<-done
		cancel()
	}
}
