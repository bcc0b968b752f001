package wechat

import (
	"testing"
	"testing/synctest"
	"time"
)

// Our clock jumps and WeChat's does not. A jump ahead costs a question, a jump
// back none; a token that was believed for too long is replaced when it is
// refused, without forcing; and nothing of it lasts once the clock is right.
func TestTokensSurviveAWrongClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		skew := time.Duration(0)
		s := &stable{}
		client := s.fake().client(t)
		client.cfg.Clock = func() time.Time { return time.Now().Add(skew) }
		ts := NewStableToken(client, "wx1", "shh")
		wantToken(t, ts, "", "T1")

		skew = 73 * time.Hour
		wantToken(t, ts, "", "T1") // asked for again: it is the same
		wantToken(t, ts, "", "T1") // and kept, until then by the wrong clock
		s.wantAsks(t, 2)

		skew = -73 * time.Hour
		<-time.After(3 * time.Hour)
		wantToken(t, ts, "", "T1")   // believed, although WeChat has ended it
		wantToken(t, ts, "T1", "T2") // until WeChat says so
		s.wantAsks(t, 3)

		skew = 0
		wantToken(t, ts, "", "T2")
		<-time.After(2 * time.Hour)
		wantToken(t, ts, "", "T3")
		for _, a := range s.asks {
			if a[:6] == "forced" {
				t.Errorf("asked: %v; want none forced: that ends the token of everybody else", s.asks)
			}
		}
	})
}

func (s *stable) wantAsks(t *testing.T, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asks) != n {
		t.Errorf("WeChat was asked %d times (%v), want %d", len(s.asks), s.asks, n)
	}
}
