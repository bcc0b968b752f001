//go:build prom

package prometheus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"
)

// tools builds the programs once and returns their directory.
var tools = sync.OnceValues(func() (string, error) {
	cmd := exec.Command(filepath.Join(root, "test/promtools.sh"))
	cmd.Stderr = os.Stderr // progress
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
})

func tool(t *testing.T, name string) string {
	t.Helper()
	dir, err := tools()
	if err != nil {
		t.Fatalf("promtools.sh: %v", err)
	}
	return filepath.Join(dir, name)
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), tool(t, name), args...).CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestPromtool(t *testing.T) {
	rules := files(t, "prometheus/rules/*.yml")
	run(t, "promtool", append([]string{"check", "rules", "--lint=all", "--lint-fatal"}, rules...)...)
	run(t, "promtool", append([]string{"test", "rules"}, files(t, "prometheus/tests/*_test.yml")...)...)
	for _, config := range files(t, "prometheus/*.yml") {
		run(t, "promtool", "check", "config", "--lint=all", "--lint-fatal", config)
	}
}

const alertmanagerConfig = root + "/alertmanager/alertmanager.yml"

func TestAmtool(t *testing.T) {
	run(t, "amtool", "check-config", alertmanagerConfig)
	for labels, receiver := range map[string]string{
		"alertname=QunfaAuditFailed severity=critical":    "on-call",
		"alertname=QunfaReceiverDown severity=critical":   "on-call",
		"alertname=QunfaDeliveryRateLow severity=warning": "operators",
		"alertname=QunfaUnknownStatus severity=info":      "null",
		"alertname=QunfaWatchdog severity=info":           "watchdog",
	} {
		args := append([]string{"config", "routes", "test", "--config.file=" + alertmanagerConfig}, strings.Fields(labels)...)
		if have := strings.TrimSpace(run(t, "amtool", args...)); have != receiver {
			t.Errorf("%s goes to %s, want %s", labels, have, receiver)
		}
	}
}

// alert is what a template sees of one.
type alert struct {
	Status      string            `json:"status"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// weComLimit is what WeCom takes, in bytes; more is refused.
const weComLimit = 2048

func TestTemplatesFit(t *testing.T) {
	for _, name := range []string{"qunfa.wecom.markdown", "qunfa.wecom.text"} {
		for what, alerts := range map[string][]alert{
			"one":               rejected(1, "firing", 1),
			"a hundred":         rejected(100, "firing", 1),
			"resolved":          rejected(100, "resolved", 1),
			"some resolved":     append(rejected(3, "firing", 1), rejected(3, "resolved", 1)...),
			"endless words":     rejected(3, "firing", 400),
			"without anything":  {{Status: "firing", Labels: map[string]string{"alertname": "Other"}, Annotations: map[string]string{}}},
			"endless and a lot": rejected(100, "firing", 13),
		} {
			t.Run(name+" "+what, func(t *testing.T) { checkFit(t, name, alerts) })
		}
	}
}

func checkFit(t *testing.T, name string, alerts []alert) {
	out := render(t, name, alerts)
	if len(out) > weComLimit || !utf8.ValidString(out) {
		t.Errorf("%d bytes, valid UTF-8: %t\n%s", len(out), utf8.ValidString(out), out)
	}
	if n := len(alerts); n == 100 && !strings.Contains(out, "共 100 条") {
		t.Errorf("does not say how many there are:\n%s", out)
	}
	if !strings.Contains(out, alerts[0].Labels["alertname"]) || strings.Contains(out, "<no value>") {
		t.Errorf("is not complete:\n%s", out)
	}
}

func render(t *testing.T, name string, alerts []alert) string {
	t.Helper()
	status := "resolved"
	for _, a := range alerts {
		if a.Status == "firing" {
			status = "firing"
		}
	}
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(map[string]any{"receiver": "operators", "status": status, "alerts": alerts}); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data.json")
	if err := os.WriteFile(data, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return run(t, "amtool", "template", "render", "--template.glob="+root+"/alertmanager/templates/*.tmpl",
		"--template.text="+fmt.Sprintf("{{ template %q . }}", name), "--template.data="+data)
}

// rejected makes alerts about rejected messages, whose words are as many times as long.
func rejected(n int, status string, times int) []alert {
	var list []alert
	for i := range n {
		list = append(list, alert{
			Status: status,
			Labels: map[string]string{"alertname": "QunfaAuditFailed", "severity": "critical", "appid": fmt.Sprintf("wx%016x", i), "err_code": "30003",
				"note": strings.Repeat("备注", times)},
			Annotations: map[string]string{
				"summary":     "Mass messages were rejected and reached nobody.",
				"summary_zh":  strings.Repeat("群发消息被拒绝，没有发给任何人。", times),
				"description": strings.Repeat("公众号的群发被拒绝。", 3*times),
				"reason_zh":   strings.Repeat("原创校验被判定为转载文且用户选择了被判为转载就不群发", times),
				"runbook_url": "https://docs.example.com/" + strings.Repeat("path/", times) + "runbook.md#qunfaauditfailed",
			},
		})
	}
	return list
}
