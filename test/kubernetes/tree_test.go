package kubernetes

import (
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	manifestImage = regexp.MustCompile(`(?m)^\s*image: (.*)$`)
	secretObject  = regexp.MustCompile(`(?m)^kind: Secret\b|\b(stringData|literals|envs):`)
)

// One place says which version of an image runs: the kustomization.
func TestImagesInOnePlace(t *testing.T) {
	n := 0
	for name, content := range files(t) {
		for _, m := range manifestImage.FindAllStringSubmatch(content, -1) {
			n++
			if strings.ContainsAny(m[1], ":/@") {
				t.Errorf("%s says image %s: leave name and version to the kustomization", name, m[1])
			}
		}
	}
	if n < 6 {
		t.Errorf("found %d images", n)
	}
}

// The demo runs what docker-compose.yml runs, with the accounts that the simulator has.
func TestDemoIsThatOfCompose(t *testing.T) {
	compose := read(t, "docker-compose.yml")
	for name, image := range demoImages(t) {
		if !strings.Contains(compose, "&"+name+"-image "+image+"\n") {
			t.Errorf("%s is %s here, and another in docker-compose.yml", name, image)
		}
	}
	if read(t, "deploy/kubernetes/overlays/demo/demo.yaml") != read(t, "deploy/compose/demo/accounts/demo.yaml") {
		t.Error("the accounts of the two demos differ")
	}
}

func demoImages(t *testing.T) map[string]string {
	t.Helper()
	c := load(t, copyTree(t), "overlays/demo")
	images := map[string]string{}
	for _, w := range c.workloads {
		if w.component() == "" && w.name != "simulator" {
			images[w.name] = w.container().Image
		}
	}
	if len(images) != 2 {
		t.Errorf("images %v, want Kafka's and ClickHouse's", images)
	}
	return images
}

// No password has a default, and none can be committed by mistake.
func TestNoSecrets(t *testing.T) {
	all := files(t)
	for name, content := range all {
		if m := secretObject.FindString(content); m != "" {
			t.Errorf("%s holds %q", name, m)
		}
	}
	const file = "deploy/kubernetes/overlays/demo/secrets/services/api_token"
	cmd := exec.CommandContext(t.Context(), "git", "check-ignore", "-q", file)
	cmd.Dir = root
	if err := cmd.Run(); err != nil {
		t.Errorf("git does not ignore %s: %v", file, err)
	}
	c := load(t, copyTree(t), "overlays/production")
	if len(c.secrets) != 0 {
		t.Error("the production overlay makes Secrets")
	}
}

// What people have to make is what the documentation tells them to make.
func TestProvidedSecretsAreDocumented(t *testing.T) {
	doc := read(t, "docs/kubernetes.md")
	for name, keys := range provided {
		if !strings.Contains(doc, "create secret generic "+name+" ") {
			t.Errorf("docs/kubernetes.md does not make %s", name)
		}
		for _, key := range keys {
			if !strings.Contains(doc, "`"+key+"`") {
				t.Errorf("docs/kubernetes.md does not tell of the key %s of %s", key, name)
			}
		}
	}
	operations := read(t, "docs/operations.md")
	if !strings.Contains(operations, "terminationGracePeriodSeconds: 40") || !strings.Contains(all(files(t)), "terminationGracePeriodSeconds: 40") {
		t.Error("the grace period is another than that of docs/operations.md")
	}
}

func all(files map[string]string) string {
	return strings.Join(slices.Collect(maps.Values(files)), "\n")
}

var (
	metricName = regexp.MustCompile(`qunfa_[a-z_]+`)
	jobName    = regexp.MustCompile(`(?:job_name|jobName|replacement): (\S+)`)
)

// What autoscalers ask exists, and the metric that one asks for is what the adapter's
// rule makes.
func TestMetricsExist(t *testing.T) {
	all := files(t)
	known := read(t, "docs/metrics.md")
	const rules, autoscaler, keda = "components/lag-autoscaling/adapter-rules.yaml", "components/lag-autoscaling/autoscaler.yaml", "components/keda/scaledobject.yaml"
	const made = "qunfa_sink_lag_records"
	for _, name := range []string{rules, keda} {
		found := metricName.FindAllString(all[name], -1)
		if len(found) == 0 {
			t.Errorf("%s asks for nothing", name)
		}
		for _, metric := range found {
			if metric != made && !strings.Contains(known, "`"+metric+"`") {
				t.Errorf("%s: no service has %s", name, metric)
			}
		}
	}
	if !strings.Contains(all[rules], "as: "+made+"}") || !strings.Contains(all[autoscaler], "name: "+made+"}") {
		t.Errorf("the adapter does not make the metric %s, or the autoscaler does not ask for it", made)
	}
	query := `sum(qunfa_kafka_lag_records{service="sink"})`
	if !strings.Contains(all[rules], "'"+query+"'") || !strings.Contains(all[keda], "query: "+query+"\n") {
		t.Errorf("both autoscalers should ask %s", query)
	}
}

// The alert rules count on these names of jobs, and the delivery figures have one address.
func TestScraping(t *testing.T) {
	all := files(t)
	for _, name := range []string{"components/prometheus-operator/scrape.yaml", "prometheus-scrape.yml"} {
		var jobs []string
		for _, m := range jobName.FindAllStringSubmatch(all[name], -1) {
			jobs = append(jobs, m[1])
			if !strings.HasPrefix(m[1], "qunfa-") {
				t.Errorf("%s: a job %s", name, m[1])
			}
		}
		if !slices.Contains(jobs, "qunfa-$1") || !slices.Contains(jobs, "qunfa-delivery") || !strings.Contains(all[name], "labels: {instance: delivery}") {
			t.Errorf("%s: jobs %v", name, jobs)
		}
	}
	c := load(t, copyTree(t), "overlays/production")
	monitor, scrape := c.podMonitors[0], c.scrapeConfigs[0].Spec
	if got := names(c.selected(&monitor.Spec.Selector)); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"qunfa-ingest", "qunfa-reconcile", "qunfa-sink"}) {
		t.Errorf("the PodMonitor scrapes %v", got)
	}
	if got := scrape.StaticConfigs[0].Targets; !slices.Equal(got, []string{"qunfa-delivery:8082"}) || scrape.MetricsPath != "/metrics/delivery" {
		t.Errorf("%s is scraped from %v", scrape.MetricsPath, got)
	}
}
