package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"qunfa/internal/daemon"
)

func (d *Doctor) serviceChecks() []Check {
	var checks []Check
	for _, address := range d.adminAddresses() {
		checks = append(checks,
			Check{Area: AreaServices, ID: "services.ready", Subject: address, What: "the services there say that they can work", Doc: runbook + "begin-here",
				Run: func(ctx context.Context, r Result) { d.checkReady(ctx, r, address) }},
			Check{Area: AreaServices, ID: "services.metrics", Subject: address, What: "what the services there have counted", Doc: runbook + "begin-here",
				Run: func(ctx context.Context, r Result) { d.checkMetrics(ctx, r, address) }})
	}
	return append(checks, d.diskChecks()...)
}

func (d *Doctor) adminAddresses() []string {
	if len(d.cfg.Admins) > 0 {
		return d.cfg.Admins
	}
	return []string{reachable(d.cfg.Settings.Admin.Listen)}
}

// checkReady asks what /readyz says, and by its date what time it is there.
func (d *Doctor) checkReady(ctx context.Context, r Result, address string) {
	before := d.cfg.Clock()
	s := AskService(ctx, d.admin, address)
	after := d.cfg.Clock()
	if s.Error != "" {
		if len(d.cfg.Admins) == 0 && !d.cfg.Embedded {
			r.Unchecked("name the services with --admin HOST:PORT, once for each", "no service is asked: none answers at admin.listen, %s", address)
			return
		}
		r.See(runbook+"qunfainstancedown").Fail("start it; if it runs, see whether its admin.listen can be reached from here", "%s", s.Error)
		return
	}
	for _, c := range s.Checks {
		switch c.Status {
		case daemon.StatusNotReady:
			r.Fail("its log says more; the check of the same thing above says what to do", "%s: %s", c.Name, c.Reason)
		case daemon.StatusDegraded:
			r.Warn("nothing is lost, but see why", "%s: %s", c.Name, c.Reason)
		}
	}
	if r.None() {
		r.OK("ready: %s", strings.Join(names(s.Checks), ", "))
	}
	if s.date != "" {
		var clock []Finding
		d.judgeClock(Result{r.See(runbook + "qunfaclockoff").check, &clock}, before, after, s.date, "the service's")
		if clock[0].Severity != OK { // one line for a service that is well
			*r.list = append(*r.list, clock...)
		}
	}
}

func names(checks []daemon.Result) []string {
	var list []string
	for _, c := range checks {
		list = append(list, c.Name)
	}
	return list
}

// figures are what a service has counted.
type figures map[string]*dto.MetricFamily

// maxMetrics bounds an answer: 500 accounts have 20 series each.
const maxMetrics = 64 << 20

func (d *Doctor) figures(ctx context.Context, address string) (figures, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, AdminURL(address, "/metrics"), nil)
	if err != nil {
		return nil, err
	}
	res, err := d.admin.Do(req)
	if err != nil {
		return nil, errors.New(cause(err, ""))
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("status %d", res.StatusCode)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(io.LimitReader(res.Body, maxMetrics))
}

// sum adds up the series of a metric whose label has one of the values; all of
// them if no label is given. A metric that is not there is 0.
func (f figures) sum(name, label string, values ...string) float64 {
	total := 0.0
	for _, m := range f[name].GetMetric() {
		if label == "" || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetName() == label && slices.Contains(values, l.GetValue()) }) {
			total += m.GetCounter().GetValue() + m.GetGauge().GetValue() + m.GetUntyped().GetValue()
		}
	}
	return total
}

// oldest is the earliest of the times that a metric has, zero if it has none.
func (f figures) oldest(name string) time.Time {
	first := 0.0
	for _, m := range f[name].GetMetric() {
		if v := m.GetGauge().GetValue(); v > 0 && (first == 0 || v < first) {
			first = v
		}
	}
	if first == 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(first * 1000))
}

func (d *Doctor) checkMetrics(ctx context.Context, r Result, address string) {
	f, err := d.figures(ctx, address)
	if err != nil {
		r.Unchecked("see services.ready", "they cannot be read: %v", err)
		return
	}
	d.judgeCallbacks(r, f)
	d.judgeSpool(r, f)
	judgeWork(r, f)
	judgeFiles(r, f)
	if r.None() {
		r.OK("nothing out of the ordinary since it started, %s ago", d.since(f))
	}
}

// since is how long ago the service started.
func (d *Doctor) since(f figures) string {
	return days(d.cfg.Clock().Sub(time.UnixMilli(int64(1000 * f.sum("process_start_time_seconds", "")))))
}

func (d *Doctor) judgeCallbacks(r Result, f figures) {
	count := func(results ...string) int64 { return int64(f.sum("qunfa_callbacks_total", "result", results...)) }
	ago := "since the start " + d.since(f) + " ago"
	for _, c := range []struct {
		results    []string
		what, then string
		doc        string
		fail       bool
	}{
		{[]string{"signature"}, "refused for a wrong signature", "compare the tokens with WeChat's console; the log of ingest names the account", "qunfasignaturefailures", false},
		{[]string{"decrypt", "appid"}, "refused for a wrong EncodingAESKey or appid", "compare aes_keys with WeChat's console; the log of ingest names the account", "qunfasignaturefailures", false},
		{[]string{"plain_refused"}, "refused because they are not encrypted", "choose 安全模式 in WeChat's console, or set allow_plain for the time of the change", "qunfasignaturefailures", false},
		{[]string{"account_mismatch"}, "refused because they name another account", "compare original_id with the account's settings page", "qunfasignaturefailures", false},
		{[]string{"unknown_account"}, "for accounts that are not configured", "add them to the configuration; the log of ingest names them", "qunfaunknownaccount", false},
		{[]string{"timestamp"}, "refused for their time", "set the clock; use the safe mode", "qunfacallbacksrefusedbyclock", false},
		{[]string{"unavailable", "overload", "internal", "record_too_large"}, "not taken, and some perhaps lost", "see kafka.reach, kafka.write and the log of ingest; a spool (ingest.spool_dir) bridges an outage of Kafka", "qunfacallbackerrors", true},
	} {
		switch n := count(c.results...); {
		case n == 0:
		case c.fail:
			r.See(runbook+c.doc).Fail(c.then, "%s %s, %s", plural(int(n), "callback"), c.what, ago)
		default:
			r.See(runbook+c.doc).Warn(c.then, "%s %s, %s", plural(int(n), "callback"), c.what, ago)
		}
	}
}

func (d *Doctor) judgeSpool(r Result, f figures) {
	n, most := f.sum("qunfa_spool_records", ""), f.sum("qunfa_spool_max_bytes", "")
	if n > 0 {
		used := f.sum("qunfa_spool_bytes", "")
		text := fmt.Sprintf("%s in the spool, the oldest for %s, %s of %s", plural(int(n), "event"), days(d.cfg.Clock().Sub(f.oldest("qunfa_spool_oldest_timestamp_seconds"))), size(uint64(used)), size(uint64(most)))
		if used > most/2 {
			r.See(runbook+"qunfaspoolfilling").Fail("bring Kafka back: when it is full, callbacks are refused and lost", "%s", text)
		} else {
			r.See(runbook+"qunfaspoolgrowing").Warn("bring Kafka back: then it drains by itself", "%s", text)
		}
	}
	if n := f.sum("qunfa_spool_set_aside_records", ""); n > 0 {
		r.See(runbook+"qunfaspoolsetaside").Warn("see the log of ingest for why Kafka refuses them; a restart offers them again", "%s set aside in the spool", plural(int(n), "event"))
	}
	if n := f.sum("qunfa_spool_damaged_files", ""); n > 0 {
		r.See(runbook+"qunfaspoolfailing").Warn("what was whole in it was taken over; keep it until that is looked at, then remove it", "%s in the spool's directory", plural(int(n), "damaged file"))
	}
}

// judgeWork looks at the gauges that say that something stands still now.
func judgeWork(r Result, f figures) {
	if f.sum("qunfa_kafka_produce_failing_lanes", "") > 0 {
		r.See(runbook+"qunfaproducefailing").Fail("see the checks of Kafka", "records cannot be written to Kafka")
	}
	if f.sum("qunfa_sink_paused", "") > 0 {
		r.See(runbook+"qunfasinkpaused").Fail("see the checks of ClickHouse; its log names what it waits for", "the sink waits for somebody to repair something; nothing is lost")
	}
	if n := f.sum("qunfa_reconcile_account_blocked", "class", "config", "account"); n > 0 {
		r.See(runbook+"qunfaaccountblocked").Fail("see api.access", "%s not asked about until people mend something", plural(int(n), "account"))
	}
	if n := f.sum("qunfa_callback_clock_skewed_total", ""); n > 2 {
		r.See(runbook+"qunfaclockoff").Warn("set the clock of ingest's machine", "%s came with a time far from its clock", plural(int(n), "callback"))
	}
	if n := f.sum("qunfa_callback_original_id_mismatches_total", ""); n > 0 {
		r.See(runbook+"qunfasignaturefailures").Warn("correct original_id; the log of ingest names the account", "%s named another original_id than the configuration", plural(int(n), "callback"))
	}
}

// leastFiles is what a service needs: connections, and the files of the spool.
const leastFiles = 1024

func judgeFiles(r Result, f figures) {
	const remedy = "raise it: LimitNOFILE= of systemd, ulimits of docker compose"
	most := f.sum("process_max_fds", "")
	switch used := f.sum("process_open_fds", ""); {
	case most == 0: // the system does not tell
	case used > 0.8*most:
		r.Fail(remedy, "%.0f of %.0f files and connections are open", used, most)
	case most < leastFiles:
		r.Warn(remedy, "the limit of open files and connections is %.0f: want %d or more", most, leastFiles)
	}
}
