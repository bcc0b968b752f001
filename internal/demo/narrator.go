package demo

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"qunfa/internal/wechat/wechattest"
)

// narrator says what happens. On a terminal the last line is overwritten.
type narrator struct {
	mu    sync.Mutex
	out   io.Writer
	live  bool
	began time.Time
	open  bool      // the last line can be overwritten
	spoke time.Time // last status, where it cannot be overwritten
}

// quiet is how often progress is written where it cannot overwrite itself.
const quiet = 5 * time.Second

func (n *narrator) line(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.write(text, false)
}

func (n *narrator) write(text string, overwrite bool) {
	if n.open {
		fmt.Fprint(n.out, "\r\x1b[K")
	}
	fmt.Fprintf(n.out, "%6.1fs  %s", time.Since(n.began).Seconds(), text)
	if n.open = overwrite; !overwrite {
		fmt.Fprintln(n.out)
	}
}

func (n *narrator) begin(what string) {
	n.line("— " + what)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.spoke = time.Now()
}

// status shows progress.
func (n *narrator) status(text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.live {
		n.write(text, true)
		return
	}
	if time.Since(n.spoke) >= quiet {
		n.spoke = time.Now()
		n.write(text, false)
	}
}

// end leaves the line that was overwritten.
func (n *narrator) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.open {
		fmt.Fprintln(n.out)
		n.open = false
	}
}

// step tells of one thing that was done.
func (n *narrator) step(done, total int, what string, err error) {
	refused := (*wechattest.APIError)(nil)
	if errors.As(err, &refused) {
		what = fmt.Sprintf("%s: WeChat refuses: %s", what, strings.TrimSpace(refused.Error()))
	}
	if done == total {
		n.line(fmt.Sprintf("%d/%d %s", done, total, what))
		return
	}
	n.status(fmt.Sprintf("%d/%d %s", done, total, what))
}
