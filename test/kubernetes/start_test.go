package kubernetes

import (
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"qunfa/internal/app"
	"qunfa/internal/config"
)

// demoAccounts stands for what people put into qunfa-accounts.
const demoAccounts = "- {appid: wx0123456789abcdef, tokens: [token]}\n"

// filesystem makes, below a directory, what the container of w sees where its volumes
// are mounted. Nothing else is there: a file that the configuration names and that is
// not mounted is missed here as it would be in the pod.
func (c *cluster) filesystem(t *testing.T, w workload) string {
	t.Helper()
	dir := t.TempDir()
	volumes := map[string]corev1.Volume{}
	for _, v := range w.pod.Spec.Volumes {
		volumes[v.Name] = v
	}
	for _, m := range w.container().VolumeMounts {
		at := filepath.Join(dir, m.MountPath)
		if err := os.MkdirAll(at, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, content := range c.content(t, volumes[m.Name]) {
			write(t, filepath.Join(at, name), content)
		}
	}
	return dir
}

// content is the files of a volume.
func (c *cluster) content(t *testing.T, v corev1.Volume) map[string]string {
	t.Helper()
	content := map[string]string{}
	switch {
	case v.ConfigMap != nil:
		return c.configMap(v.ConfigMap.Name).Data
	case v.Secret == nil:
		return nil
	}
	for _, key := range c.secretKeys(v.Secret.SecretName) {
		content[key] = "0123456789abcdef0123456789abcdef"
		if strings.HasSuffix(key, ".yaml") {
			content[key] = demoAccounts
		}
	}
	for _, s := range c.secrets {
		if s.Name == v.Secret.SecretName {
			for key, value := range s.Data {
				content[key] = string(value)
			}
		}
	}
	if len(v.Secret.Items) == 0 {
		return content
	}
	some := map[string]string{}
	for _, item := range v.Secret.Items {
		value, ok := content[item.Key]
		if !ok {
			t.Errorf("Secret %s has no key %s", v.Secret.SecretName, item.Key)
		}
		some[item.Path] = value
	}
	return some
}

// configOf loads the configuration as the container of w does. Where its paths are
// absolute, they lead below dir.
func (c *cluster) configOf(t *testing.T, w workload) *config.Config {
	t.Helper()
	dir := c.filesystem(t, w)
	below := strings.NewReplacer(" /run/qunfa/", " "+dir+"/run/qunfa/", " /var/lib/qunfa/", " "+dir+"/var/lib/qunfa/")
	file := filepath.Join(dir, "etc/qunfa/qunfa.yaml") // WORKDIR and QUNFA_CONFIG of the image
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%s: %v", w, err)
	}
	loader := config.Loader{LookupEnv: func(name string) (string, bool) {
		value := env(w, name)
		return strings.TrimPrefix(below.Replace(" "+value), " "), value != ""
	}}
	cfg, _, err := loader.Parse(file, []byte(below.Replace(string(text))))
	if err != nil {
		t.Fatalf("%s: %v", w, err)
	}
	return cfg
}

// Every container has the files, the variables and the keys that its service needs, and
// listens where the manifests say.
func TestConfiguration(t *testing.T) {
	dir := copyTree(t)
	for _, v := range variants {
		c := load(t, dir, v)
		for _, w := range c.workloads {
			if w.component() == "" {
				continue
			}
			t.Run(v+"/"+w.component(), func(t *testing.T) {
				cfg := c.configOf(t, w)
				if err := cfg.ValidateFor(config.Service(w.component())); err != nil {
					t.Error(err)
				}
				if (w.component() == "migrate") != (len(cfg.Accounts) == 0) {
					t.Errorf("%d accounts", len(cfg.Accounts))
				}
				listens := map[string]string{"callbacks": cfg.Ingest.Listen, "records": cfg.Ingest.Internal, "admin": cfg.Admin.Listen}
				for _, p := range w.container().Ports {
					if want := "0.0.0.0:" + strconv.Itoa(int(p.ContainerPort)); listens[p.Name] != want {
						t.Errorf("port %s is %d, but the service listens on %q", p.Name, p.ContainerPort, listens[p.Name])
					}
				}
				for _, finding := range c.egress(w, cfg) {
					t.Error(finding)
				}
			})
		}
	}
}

// egress says which of the servers the NetworkPolicies keep from a pod.
func (c *cluster) egress(w workload, cfg *config.Config) findings {
	var f findings
	servers := slices.Clone(cfg.Kafka.Brokers)
	if w.component() != "ingest" {
		servers = append(servers, cfg.ClickHouse.Addr...)
	}
	if w.component() == "reconcile" {
		servers = append(servers, strings.TrimPrefix(strings.Replace(cfg.WeChat.BaseURL.Raw(), "https://api.weixin.qq.com", "api.weixin.qq.com:443", 1), "http://"))
	}
	for _, server := range servers {
		_, port, err := net.SplitHostPort(server)
		n, _ := strconv.Atoi(port)
		if err != nil || !c.mayReach(w, int32(n)) {
			f.add("no NetworkPolicy lets %s reach %s", w, server)
		}
	}
	if w.component() == "ingest" && len(cfg.ClickHouse.Addr) > 0 && c.mayReach(w, 9000) {
		f.add("%s may reach ClickHouse, and has nothing to do there", w)
	}
	return f
}

func (c *cluster) mayReach(w workload, port int32) bool {
	return slices.ContainsFunc(c.policies, func(p *networkingv1.NetworkPolicy) bool {
		return selects(&p.Spec.PodSelector, w.pod.Labels) && slices.ContainsFunc(p.Spec.Egress, func(r networkingv1.NetworkPolicyEgressRule) bool {
			return slices.ContainsFunc(r.Ports, func(open networkingv1.NetworkPolicyPort) bool { return c.covers(open, port) })
		})
	})
}

// covers resolves a named port at the pods that have it.
func (c *cluster) covers(open networkingv1.NetworkPolicyPort, port int32) bool {
	if open.Port == nil {
		return true
	}
	if open.EndPort != nil {
		return open.Port.IntVal <= port && port <= *open.EndPort
	}
	if open.Port.StrVal == "" {
		return open.Port.IntVal == port
	}
	return slices.ContainsFunc(c.workloads, func(w workload) bool {
		return slices.ContainsFunc(w.container().Ports, func(p corev1.ContainerPort) bool {
			return p.Name == open.Port.StrVal && p.ContainerPort == port
		})
	})
}

// What kubelet and Prometheus ask is answered by the services themselves, started with
// the configuration of their container.
func TestServicesStart(t *testing.T) {
	c := load(t, copyTree(t), "base")
	for _, name := range []string{"ingest", "sink", "reconcile"} {
		t.Run(name, func(t *testing.T) {
			w := c.workload(name)
			admin := start(t, name, c.configOf(t, *w))
			asked := map[string]int{"/metrics": http.StatusOK}
			for _, p := range probes(*w) {
				asked[p.HTTPGet.Path] = http.StatusOK
			}
			asked[w.container().ReadinessProbe.HTTPGet.Path] = http.StatusServiceUnavailable // nothing to connect to
			if name == "ingest" {
				asked["/readyz"] = http.StatusOK // it has its spool
			}
			if name == "sink" {
				asked["/metrics/delivery"] = http.StatusServiceUnavailable
			}
			for page, want := range asked {
				if got := get(t, "http://"+admin+page); got != want {
					t.Errorf("%s answers %d, want %d", page, got, want)
				}
			}
		})
	}
}

// start runs a service that finds neither Kafka nor ClickHouse.
func start(t *testing.T, name string, cfg *config.Config) (admin string) {
	t.Helper()
	const nobody = "127.0.0.1:1"
	cfg.Kafka.Brokers, cfg.ClickHouse.Addr = []string{nobody}, []string{nobody}
	cfg.Ingest.Listen, cfg.Ingest.Internal, cfg.Admin.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	h, err := app.NewHost(cfg, app.Options{}, name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return h.AdminAddr()
}

func get(t *testing.T, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode
}

// The spool is on a claim that outlasts the pod, and fits into it.
func TestSpoolOutlastsThePod(t *testing.T) {
	dir := copyTree(t)
	for _, v := range variants {
		c := load(t, dir, v)
		w := c.workload("ingest")
		claims := map[string]int64{}
		for _, claim := range w.claims {
			claims[claim.Name] = claim.Spec.Resources.Requests.Storage().Value()
		}
		mounts := map[string]string{}
		for _, m := range w.container().VolumeMounts {
			mounts[m.MountPath] = m.Name
		}
		cfg := c.configOf(t, *w)
		at := "/var/lib/qunfa/" + path.Base(cfg.Ingest.SpoolDir)
		// Events, and as much of what cannot be read.
		if size := claims[mounts[at]]; size < 2*int64(cfg.Ingest.SpoolMaxBytes) {
			t.Errorf("%s: spool_dir %s is on a claim of %d bytes, of %v", v, at, size, slices.Sorted(maps.Keys(claims)))
		}
	}
}
