//go:build chaos

package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// wires are the proxies between the parts, by name. A name may stand for
// several: the wire to Kafka has a proxy before each broker.
type wires struct {
	t      *testing.T
	server *toxiproxy.ApiServer
	named  map[string][]*toxiproxy.Proxy
}

func newWires(t *testing.T) *wires {
	zerolog.SetGlobalLevel(zerolog.Disabled) // toxics log every step of theirs
	w := &wires{t: t, server: toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop()), named: map[string][]*toxiproxy.Proxy{}}
	t.Cleanup(func() {
		for _, all := range w.named {
			for _, p := range all {
				p.Stop()
			}
		}
	})
	return w
}

// add puts a proxy that listens at one address before another one. Wires that
// share a proxy must not be in trouble together.
func (w *wires) add(listen, upstream string, names ...string) {
	w.t.Helper()
	p := toxiproxy.NewProxy(w.server, names[0], listen, upstream)
	if err := p.Start(); err != nil {
		w.t.Fatalf("a proxy for %s: %v", names[0], err)
	}
	for _, name := range names {
		w.named[name] = append(w.named[name], p)
	}
}

// troubles of a wire.
var wireTroubles = []string{"cut", "drop", "reset", "slow", "narrow"}

// toxics are what toxiproxy does for each trouble but the cut.
func toxics(what string) []string {
	both := func(kind, attributes string) []string {
		return []string{
			fmt.Sprintf(`{"name":"up","type":%q,"stream":"upstream","attributes":%s}`, kind, attributes),
			fmt.Sprintf(`{"name":"down","type":%q,"stream":"downstream","attributes":%s}`, kind, attributes),
		}
	}
	switch what {
	case "drop": // everything is swallowed, and nothing closed
		return both("timeout", `{"timeout":0}`)
	case "reset": // connections live for half a second
		return both("reset_peer", `{"timeout":500}`)
	case "slow":
		return both("latency", `{"latency":400,"jitter":300}`)
	case "narrow": // 64 KB/s in small pieces
		return append(both("bandwidth", `{"rate":64}`),
			`{"name":"slices","type":"slicer","stream":"downstream","attributes":{"average_size":200,"size_variation":100,"delay":500}}`)
	}
	return nil
}

// trouble does something to a wire until undo is called.
func (w *wires) trouble(what, name string) (undo func() error, err error) {
	all := w.named[name]
	if len(all) == 0 {
		return nil, fmt.Errorf("there is no wire %s", name)
	}
	if what == "cut" {
		for _, p := range all {
			p.Stop()
		}
		return func() error {
			var errs []error
			for _, p := range all {
				errs = append(errs, p.Start())
			}
			return errors.Join(errs...)
		}, nil
	}
	list := toxics(what)
	if list == nil {
		return nil, fmt.Errorf("nobody knows how to %s %s", what, name)
	}
	for _, p := range all {
		for _, toxic := range list {
			if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for _, p := range all {
			p.Toxics.ResetToxics(ctx)
			if what == "drop" {
				// What was swallowed is gone, so these connections are, too.
				p.Stop()
				if err := p.Start(); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		}
		return ctx.Err()
	}, nil
}
