package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"qunfa/internal/events"
)

// wireSubmission is a record as the API reads it. What the sender did not give
// is left out, so that its event has the same id as if the sender had called the
// API himself, today or again tomorrow.
type wireSubmission struct {
	AppID        string `json:"appid"`
	MsgID        int64  `json:"msg_id"`
	MsgDataID    *int64 `json:"msg_data_id,omitempty"`
	SubmittedAt  string `json:"submitted_at,omitempty"`
	Audience     string `json:"audience,omitempty"`
	TagID        *int64 `json:"tag_id,omitempty"`
	AudienceSize *int64 `json:"audience_size,omitempty"`
	MsgType      string `json:"msg_type,omitempty"`
	Label        string `json:"label,omitempty"`
	Campaign     string `json:"campaign,omitempty"`
	ClientMsgID  string `json:"clientmsgid,omitempty"`
	Recorder     string `json:"recorder,omitempty"`
	Chase        *bool  `json:"chase,omitempty"`
}

// wireRecord writes a submission back as a record.
func wireRecord(e events.Event) ([]byte, error) {
	d, ok := e.Data.(*events.Submitted)
	if !ok {
		return nil, fmt.Errorf("event %s is no submission", e.ID)
	}
	given, err := givenOf(e, *d)
	if err != nil {
		return nil, err
	}
	w := wireSubmission{
		AppID: d.AppID, MsgID: d.MsgID, MsgDataID: d.MsgDataID, Audience: d.Audience.Kind, TagID: d.Audience.TagID, AudienceSize: d.Audience.Size,
		MsgType: d.MsgType, Label: d.Label, Campaign: d.Campaign, ClientMsgID: d.ClientMsgID, Recorder: d.Recorder,
	}
	if given.SubmittedAt {
		w.SubmittedAt = d.SubmittedAt.UTC().Format(time.RFC3339Nano)
	}
	if given.Chase || !d.Chase { // --history is what the sender says of all
		w.Chase = &d.Chase
	}
	return json.Marshal(w)
}

// givenOf finds out which defaults were filled in: the id tells, since it
// covers only what was given.
func givenOf(e events.Event, d events.Submitted) (events.Given, error) {
	for _, g := range []events.Given{{}, {SubmittedAt: true}, {Chase: true}, {SubmittedAt: true, Chase: true}} {
		same, err := events.NewSubmitted(e.Source, d, g)
		if err != nil {
			return g, err
		}
		if same.ID == e.ID {
			return g, nil
		}
	}
	return events.Given{}, fmt.Errorf("event %s is not made of its own fields", e.ID)
}

// recordAPI calls POST /v1/submissions.
type recordAPI struct {
	url   string
	token string
	retry time.Duration
	http  *http.Client
	met   bool // the API has answered before: if it is away now, it will come back
	pause func() backoff.BackOff
}

func newRecordAPI(address, token string, retry time.Duration) *recordAPI {
	url := address
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	return &recordAPI{
		url: strings.TrimSuffix(url, "/") + "/v1/submissions", token: token, retry: retry,
		http: &http.Client{Timeout: 30 * time.Second},
		pause: func() backoff.BackOff {
			b := backoff.NewExponentialBackOff()
			b.InitialInterval, b.MaxInterval = 500*time.Millisecond, 10*time.Second
			return b
		},
	}
}

// apiReply is what of the API's answer is used.
type apiReply struct {
	Error   string      `json:"error"`
	Results []apiResult `json:"results"`
}

type apiResult struct {
	Index  int    `json:"index"`
	Status string `json:"status"`
	Error  string `json:"error"`
}

// Statuses of a record.
const (
	itemAccepted    = "accepted"
	itemUnavailable = "unavailable"
)

// send records all of them, repeating what the API cannot take now. It returns,
// for each, why it was rejected, or "". An error is about all that is left.
func (a *recordAPI) send(ctx context.Context, records [][]byte) ([]string, error) {
	errs := make([]string, len(records))
	left := make([]int, len(records)) // indexes of what is not done
	for i := range left {
		left[i] = i
	}
	operation := func() (struct{}, error) {
		var err error
		left, err = a.try(ctx, records, left, errs)
		return struct{}{}, err
	}
	_, err := backoff.Retry(ctx, operation, backoff.WithBackOff(a.pause()), backoff.WithMaxElapsedTime(a.retry))
	if err != nil {
		return nil, fmt.Errorf("record API: %w (%d records of this part were not recorded; running the command again does no harm)", err, len(left))
	}
	return errs, nil
}

// try makes one call with what is left, and returns what is left after it.
func (a *recordAPI) try(ctx context.Context, records [][]byte, left []int, errs []string) ([]int, error) {
	body := make([][]byte, len(left))
	for i, n := range left {
		body[i] = records[n]
	}
	status, reply, err := a.post(ctx, body)
	if err != nil {
		return left, err
	}
	var again []int
	for _, r := range reply.Results {
		switch {
		case r.Index < 0 || r.Index >= len(left):
			return left, backoff.Permanent(fmt.Errorf("the answer speaks of record %d of %d", r.Index, len(left)))
		case r.Status == itemUnavailable:
			again = append(again, left[r.Index])
		case r.Status != itemAccepted:
			errs[left[r.Index]] = cmp.Or(r.Error, r.Status)
		}
	}
	switch {
	case len(reply.Results) != len(left) && status == http.StatusServiceUnavailable:
		return left, fmt.Errorf("not available: %s", reply.Error)
	case len(reply.Results) != len(left):
		return left, backoff.Permanent(refused(status, reply))
	case len(again) > 0:
		return again, fmt.Errorf("not available: %s", reply.Error)
	}
	return nil, nil
}

// post makes the call. Errors are permanent unless repeating it may help.
func (a *recordAPI) post(ctx context.Context, records [][]byte) (status int, reply apiReply, err error) {
	body := append([]byte(`{"submissions":[`), bytes.Join(records, []byte(","))...)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, bytes.NewReader(append(body, "]}"...)))
	if err != nil {
		return 0, reply, backoff.Permanent(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+a.token)
	res, err := a.http.Do(req)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED) && !a.met:
		return 0, reply, backoff.Permanent(fmt.Errorf("nothing listens at %s: is ingest running, and is that its ingest.internal? --api gives another address", a.url))
	case err != nil:
		return 0, reply, err
	}
	defer res.Body.Close()
	a.met = true
	b, err := readAllBounded(res.Body, 16<<20)
	if err != nil {
		return 0, reply, err
	}
	if err := json.Unmarshal(b, &reply); err != nil {
		return 0, reply, answerOfOthers(res.StatusCode, err)
	}
	return res.StatusCode, reply, nil
}

// answerOfOthers is for a proxy before the API, which may be only passing by.
func answerOfOthers(status int, err error) error {
	err = fmt.Errorf("status %d with an answer that is not the record API's: %w", status, err)
	if status >= 500 {
		return err
	}
	return backoff.Permanent(err)
}

func refused(status int, reply apiReply) error {
	if status == http.StatusUnauthorized {
		return errors.New("the token was refused: ingest.api_token here must be that of ingest")
	}
	return fmt.Errorf("status %d: %s", status, cmp.Or(reply.Error, "no reason given"))
}
