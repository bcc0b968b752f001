package ingest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"qunfa/internal/events"
	"qunfa/test/cpu"
)

// nowhere takes every record at once.
type nowhere struct{}

func (nowhere) Publish(context.Context, events.Record) error { return nil }

// BenchmarkCallback answers pushes: signature, decryption, parsing, the event. Kafka and
// the connection are not in it.
func BenchmarkCallback(b *testing.B) {
	for name, push := range map[string]sent{
		"plain": plainPush(massXML("gh_plain", 7, "send success")),
		"safe":  safePush(massXML("gh_safe", 7, "send success")),
	} {
		b.Run(name, func(b *testing.B) {
			s, _ := newServer(b, func(_ *Config, d *Deps, _ *fixture) { d.Publisher = nowhere{} })
			defer s.Close()
			query, body := push.build(b)
			path := push.path + "?" + query.Encode()
			b.ReportAllocs()
			end := cpu.Start(b, "callback")
			for b.Loop() {
				w := httptest.NewRecorder()
				s.public.http.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
				if w.Code != http.StatusOK || w.Body.String() != "success" {
					b.Fatal(w.Code, w.Body)
				}
			}
			end(b.N)
		})
	}
}
