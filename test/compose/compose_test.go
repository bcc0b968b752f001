//go:build compose

package compose

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"qunfa/internal/wechat"
)

// Every callback of the test reports the same figures, so that sums tell how many
// were counted.
const (
	total    = 1000
	eligible = 950
	sent     = 940
	failed   = 10
)

// figures are a row of the view messages.
type figures struct {
	AppID    string `json:"appid"`
	MsgID    int64  `json:"msg_id"`
	Outcome  string `json:"outcome"`
	Total    int64  `json:"total"`
	Eligible int64  `json:"eligible"`
	Sent     int64  `json:"sent"`
	Errors   int64  `json:"errors"`
	Events   int64  `json:"events"`
}

// world is a running project and what was posted to it.
type world struct {
	*project
	next int64
	want []figures
	http *http.Client
}

func TestComposeFile(t *testing.T) {
	p := newProject(t)
	w := &world{project: p, next: 1_000_000_001, http: &http.Client{Timeout: 6 * time.Second}}
	t.Cleanup(w.http.CloseIdleConnections)
	p.up()

	w.postToEach()
	w.checkFigures()
	w.checkPrometheus()

	for _, service := range restarted {
		t.Logf("restart %s", service)
		w.restartUnderCallbacks(service)
		w.postToEach()
	}
	w.checkFigures()

	w.checkReadinessIsHealth()
	w.checkFigures()

	t.Log("a second up changes nothing")
	p.compose(append([]string{"up", "-d", "--wait", "--wait-timeout", "180"}, started...)...)
	w.postToEach()
	w.checkFigures()
	w.checkPrometheus()
	w.checkSecrets()
}

// postToEach posts a new message of every account: one in plain mode, one in safe mode.
func (w *world) postToEach() {
	w.t.Helper()
	for _, a := range w.accounts {
		w.post(a, w.next)
		w.next++
	}
}

// post delivers a callback as WeChat does: again until it is answered with success.
func (w *world) post(a account, msgID int64) {
	w.t.Helper()
	w.want = append(w.want, figures{a.appid, msgID, "sent", total, eligible, sent, failed, 1})
	w.await(time.Minute, fmt.Sprintf("success for message %d", msgID), func() error { return w.tryPost(a, msgID) })
}

func (w *world) tryPost(a account, msgID int64) error {
	now := strconv.FormatInt(time.Now().Unix(), 10)
	nonce := rand.Text()[:10]
	// CreateTime is the message's own: a repetition is the same event.
	body := fmt.Sprintf("<xml><ToUserName>%s</ToUserName><FromUserName>oComposeTest</FromUserName><CreateTime>%d</CreateTime>"+
		"<MsgType>event</MsgType><Event>MASSSENDJOBFINISH</Event><MsgID>%d</MsgID><Status>send success</Status><TotalCount>%d</TotalCount>"+
		"<FilterCount>%d</FilterCount><SentCount>%d</SentCount><ErrorCount>%d</ErrorCount></xml>",
		a.originalID, began.Unix(), msgID, total, eligible, sent, failed)
	query := url.Values{"signature": {wechat.Sign(a.token, now, nonce)}, "timestamp": {now}, "nonce": {nonce}}
	if a.aesKey != "" {
		var random [16]byte
		rand.Read(random[:]) // never fails
		encrypted, err := wechat.Encrypt(a.aesKey, a.appid, random, []byte(body))
		if err != nil {
			return err
		}
		query.Set("encrypt_type", "aes")
		query.Set("msg_signature", wechat.Sign(a.token, now, nonce, encrypted))
		body = fmt.Sprintf("<xml><ToUserName>%s</ToUserName><Encrypt>%s</Encrypt></xml>", a.originalID, encrypted)
	}
	to := fmt.Sprintf("http://127.0.0.1:%d/callback/%s?%s", w.ports["CALLBACKS"], a.appid, query.Encode())
	res, err := w.http.Post(to, "text/xml", strings.NewReader(body))
	if err != nil {
		return errors.Unwrap(err) // without the query, which is signed
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if err == nil && (res.StatusCode != http.StatusOK || string(answer) != "success") {
		err = fmt.Errorf("%s: %s", res.Status, answer)
	}
	return err
}

var began = time.Now()

// restartUnderCallbacks restarts a service while callbacks come in.
func (w *world) restartUnderCallbacks(service string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 3*time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := w.run(ctx, "docker", "compose", "restart", service)
		done <- err
	}()
	for {
		w.postToEach()
		select {
		case err := <-done:
			if err != nil {
				w.t.Fatal(err)
			}
			w.awaitHealth(service, "running healthy")
			return
		case <-time.After(time.Second):
		}
	}
}

// checkFigures waits until SQL and the sink's page agree with what was posted.
func (w *world) checkFigures() {
	w.t.Helper()
	const query = "SELECT m.appid AS appid, m.msg_id AS msg_id, outcome, total, eligible, sent, errors, e.n AS events FROM messages AS m" +
		" LEFT JOIN (SELECT appid, msg_id, count() AS n FROM events GROUP BY appid, msg_id) AS e ON e.appid = m.appid AND e.msg_id = m.msg_id" +
		" ORDER BY msg_id"
	w.await(90*time.Second, "every message in SQL, once", func() error {
		var got []figures
		out, err := w.run(w.t.Context(), "docker", "compose", "run", "--rm", "-T", "qunfa", "--format", "json", "query", query)
		if err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			return fmt.Errorf("%w: %s", err, clipEnd(out))
		}
		if d := cmp.Diff(w.want, got); d != "" {
			return fmt.Errorf("(-posted, +SQL)\n%s", d)
		}
		return nil
	})
	n := len(w.want)
	w.await(time.Minute, "the figures of the sink", func() error {
		page := w.compose("exec", "-T", "prometheus", "wget", "-q", "-O", "-", "http://sink:8082/metrics/delivery")
		for line, value := range map[string]int{
			`qunfa_messages{outcome="sent"}`:         n,
			`qunfa_recipients_total{result="sent"}`:  n * sent,
			`qunfa_recipients_total{result="error"}`: n * failed,
		} {
			if got := sample(page, line); got != strconv.Itoa(value) {
				return fmt.Errorf("%s is %q, want %d", line, got, value)
			}
		}
		return nil
	})
	w.t.Logf("%d messages, each once", n)
}

// sample is the value of a series in the text format; large ones are written with an exponent.
func sample(page, series string) string {
	for line := range strings.Lines(page) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return value
			}
			return strconv.FormatFloat(f, 'f', -1, 64)
		}
	}
	return ""
}

// checkPrometheus waits until Prometheus has the same figure, and every target.
func (w *world) checkPrometheus() {
	w.t.Helper()
	for query, want := range map[string]string{
		`qunfa_messages{outcome="sent"}`:      strconv.Itoa(len(w.want)),
		`min(up)`:                             "1",
		`count(up{job=~"qunfa.*"})`:           "4",
		`count(ALERTS{alertname=~".*dog"})`:   "1", // the rules are read, and evaluated
		`sum(qunfa_callbacks_total) > bool 0`: "1",
	} {
		w.await(90*time.Second, query+" in Prometheus", func() error {
			got, err := w.promQuery(query)
			if err == nil && got != want {
				err = fmt.Errorf("%q, want %s", got, want)
			}
			return err
		})
	}
}

func (w *world) promQuery(query string) (string, error) {
	res, err := w.http.Get(fmt.Sprintf("http://127.0.0.1:%d/api/v1/query?query=%s", w.ports["PROMETHEUS"], url.QueryEscape(query)))
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var answer struct {
		Data struct {
			Result []struct {
				Value [2]any `json:"value"`
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return "", err
	}
	if len(answer.Data.Result) != 1 {
		return "", fmt.Errorf("%d series", len(answer.Data.Result))
	}
	return fmt.Sprint(answer.Data.Result[0].Value[1]), nil
}

// checkReadinessIsHealth takes ClickHouse away: the sink must become unhealthy,
// ingest need not notice, and all must come back.
func (w *world) checkReadinessIsHealth() {
	w.t.Helper()
	w.compose("stop", "clickhouse")
	w.postToEach() // a sink with nothing to write does not miss it
	w.awaitHealth("sink", "running unhealthy")
	if got := w.health("ingest"); got != "running healthy" {
		w.t.Errorf("without ClickHouse ingest is %s", got)
	}
	w.compose("start", "clickhouse")
	w.awaitHealth("clickhouse", "running healthy")
	w.awaitHealth("sink", "running healthy")
}

// secretFiles are all that init makes, with the mode and owner that it gives.
var secretFiles = map[string]string{
	"secrets-services/api_token":           "400 65532",
	"secrets-services/clickhouse.password": "400 65532",
	"secrets-owner/clickhouse.password":    "400 65532",
	"secrets-reader/clickhouse.password":   "400 65532",
	"secrets-clickhouse/admin.password":    "400 0",
	"secrets-grafana/admin.password":       "400 472",
	"secrets-grafana/clickhouse.password":  "400 472",
	"clickhouse-users/qunfa.xml":           "640 0",
}

// checkSecrets looks for every secret where it must not be.
func (w *world) checkSecrets() {
	w.t.Helper()
	secrets := map[string]string{}
	for _, a := range w.accounts {
		secrets["token of "+a.appid] = a.token
		if a.aesKey != "" {
			secrets["EncodingAESKey of "+a.appid] = a.aesKey
		}
	}
	var c resolved
	if err := json.Unmarshal([]byte(w.compose("config", "--format", "json")), &c); err != nil {
		w.t.Fatal(err)
	}
	for file, want := range secretFiles {
		volume, name, _ := strings.Cut(file, "/")
		// The image of ClickHouse has a shell.
		out, err := w.run(w.t.Context(), "docker", "run", "--rm", "--network", "none", "-v", w.name+"_"+volume+":/s:ro", "--entrypoint", "/bin/sh",
			c.Services["clickhouse"].Image, "-c", "stat -c '%a %u' /s/"+name+" && cat /s/"+name)
		if err != nil {
			w.t.Fatal(err)
		}
		mode, content, _ := strings.Cut(out, "\n")
		if mode != want {
			w.t.Errorf("%s has mode and owner %s, want %s", file, mode, want)
		}
		if !strings.HasSuffix(file, ".xml") {
			secrets[file] = strings.TrimSpace(content)
		}
	}
	containers, err := w.run(w.t.Context(), "docker", "ps", "-aq", "--filter", "label=com.docker.compose.project="+w.name)
	if err != nil {
		w.t.Fatal(err)
	}
	inspected, err := w.run(w.t.Context(), "docker", append([]string{"inspect"}, strings.Fields(containers)...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	for where, text := range map[string]string{
		"docker compose config": w.compose("config"),
		"docker compose logs":   w.compose("logs", "--no-color"),
		"docker inspect":        inspected,
	} {
		if len(text) < 1000 {
			w.t.Errorf("%s shows %d bytes only", where, len(text))
		}
		for name, secret := range secrets {
			if len(secret) < 16 {
				w.t.Errorf("%s is short: %d characters", name, len(secret))
			}
			if strings.Contains(text, secret) {
				w.t.Errorf("%s shows %s", where, name)
			}
		}
	}
}
