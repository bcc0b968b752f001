package wechattest

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Scenario is a play: who is there, what was before, and what happens.
type Scenario struct {
	Accounts   []Account
	Components []Component
	History    []Past // in the order of time
	Live       []Step // in the order of At
}

// Past is a send of the history.
type Past struct {
	AppID   string
	DaysAgo int           // from 1
	Time    time.Duration // of the day, in Beijing
	Send    Send
	Plan    Plan
}

// Step is something that happens while the scenario plays: a send, or another push.
type Step struct {
	At    time.Duration // since the start; scaled
	AppID string
	Send  Send
	Plan  Plan
	// Push, instead of a send: "text", "template" or "publish".
	Push string
}

// Operator is who sends, and tells the receiving system about it.
type Operator struct {
	// Record is given what was sent, except what the plan leaves unrecorded.
	Record func(context.Context, []Receipt) error
	// Progress, if not nil, is told of every send and push made, and of the
	// *[APIError] of those that WeChat refused by plan.
	Progress func(done, total int, what string, err error)
}

// recordBatch is how many sends of the history are recorded at a time.
const recordBatch = 100

// PlayHistory makes the scenario's history, ending yesterday. Its callbacks are
// delivered now, many at a time; wait for them with [Simulator.Drain].
func (s *Simulator) PlayHistory(ctx context.Context, sc Scenario, op Operator) error {
	now := s.cfg.Clock().In(beijing)
	today := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, beijing)
	var batch []Receipt
	for i, p := range sc.History {
		at := today.AddDate(0, 0, -p.DaysAgo).Add(p.Time)
		receipt, err := s.Backdate(p.AppID, p.Send, p.Plan, at)
		if err != nil {
			return fmt.Errorf("wechattest: history %d: %w", i, err)
		}
		if receipt.Record != Unrecorded {
			batch = append(batch, receipt)
		}
		if len(batch) == recordBatch || i == len(sc.History)-1 {
			if err := op.record(ctx, batch); err != nil {
				return err
			}
			batch = nil
		}
		op.progress(i+1, len(sc.History), p.Send.Label, nil)
	}
	return nil
}

// Play plays the scenario's live part and returns after its last step; callbacks
// come later.
func (s *Simulator) Play(ctx context.Context, sc Scenario, op Operator) error {
	began := time.Now()
	for i, step := range sc.Live {
		if err := sleep(ctx, s.cfg.scaled(step.At)-time.Since(began)); err != nil {
			return fmt.Errorf("wechattest: step %d: %w", i, err)
		}
		what, err := s.play(ctx, step, op)
		if refused := (*APIError)(nil); err != nil && !errors.As(err, &refused) {
			return fmt.Errorf("wechattest: step %d: %w", i, err)
		}
		op.progress(i+1, len(sc.Live), what, err)
	}
	return nil
}

func (s *Simulator) play(ctx context.Context, step Step, op Operator) (what string, err error) {
	switch step.Push {
	case "text":
		return "text message of a fan", s.PushText(step.AppID, "你好,请问今天营业吗?")
	case "template":
		return "result of a template message", s.PushTemplateResult(step.AppID, "failed:user block")
	case "publish":
		return "result of a publication", s.PushPublishResult(step.AppID, 0)
	case "":
	default:
		return "", fmt.Errorf("no push %q", step.Push)
	}
	what = step.Send.Label + " (" + step.Plan.Case + ")"
	receipt, err := s.submitAs(step.AppID, step.Send, step.Plan)
	if err != nil || receipt.Record == Unrecorded {
		return what, err
	}
	return what, op.record(ctx, []Receipt{receipt})
}

// submitAs is Submit with a plan of its own, whatever was arranged.
func (s *Simulator) submitAs(appid string, send Send, p Plan) (Receipt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.account(appid)
	if err != nil {
		return Receipt{}, err
	}
	return s.receipt(a, submission{Send: send, key: send.ClientMsgID, at: s.cfg.Clock(), plan: &p})
}

func (op Operator) record(ctx context.Context, receipts []Receipt) error {
	if op.Record == nil || len(receipts) == 0 {
		return nil
	}
	if err := op.Record(ctx, receipts); err != nil {
		return fmt.Errorf("record %d sends: %w", len(receipts), err)
	}
	return nil
}

func (op Operator) progress(done, total int, what string, err error) {
	if op.Progress != nil {
		op.Progress(done, total, what, err)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
