package kubernetes

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Each check notices the mistake that it is for.
func TestChecksNotice(t *testing.T) {
	built := manifests(t, copyTree(t), "overlays/production")
	ingest := func(c *cluster) *workload { return c.workload("ingest") }
	for name, m := range map[string]struct {
		mutate func(*cluster)
		want   string
	}{
		"selector":         {func(c *cluster) { ingest(c).selector.MatchLabels["x"] = "y" }, "does not select its own pods"},
		"spread":           {func(c *cluster) { ingest(c).pod.Labels["app.kubernetes.io/component"] = "x" }, "spreads other pods"},
		"service selector": {func(c *cluster) { c.services[0].Spec.Selector["x"] = "y" }, "want one workload"},
		"service port":     {func(c *cluster) { c.services[0].Spec.Ports[0].TargetPort = intstr.FromString("x") }, "leads to port x"},
		"ingress path":     {func(c *cluster) { c.ingresses[0].Spec.Rules[0].HTTP.Paths[0].Path = "/" }, "lets [/ /platform] in"},
		"ingress port": {func(c *cluster) {
			b := c.ingresses[0].Spec.Rules[0].HTTP.Paths[0].Backend.Service
			b.Name, b.Port.Name = "qunfa-records", "records"
		}, "of Service qunfa-records"},
		"policy pods":      {func(c *cluster) { c.policies[0].Spec.PodSelector.MatchLabels["x"] = "y" }, "is about no pod"},
		"policy port":      {func(c *cluster) { *c.policies[0].Spec.Ingress[0].Ports[0].Port = intstr.FromString("x") }, "opens port x"},
		"no policy":        {func(c *cluster) { c.policies = nil }, "is under no NetworkPolicy"},
		"config map":       {func(c *cluster) { c.configMaps[0].Name = "x" }, "there is no ConfigMap"},
		"secret":           {func(c *cluster) { ingest(c).pod.Spec.Volumes[1].Secret.SecretName = "x" }, "there is no Secret x"},
		"service account":  {func(c *cluster) { c.accounts = nil }, "there is no ServiceAccount"},
		"mount":            {func(c *cluster) { ingest(c).container().VolumeMounts[0].Name = "x" }, "is no volume of it"},
		"claim":            {func(c *cluster) { ingest(c).claims = nil }, "mounts spool, which is no volume"},
		"budget":           {func(c *cluster) { c.budgets = c.budgets[1:] }, "no PodDisruptionBudget lets one ingest"},
		"budget of others": {func(c *cluster) { c.budgets[0].Spec.Selector.MatchLabels = nil }, "PodDisruptionBudget qunfa-ingest is about"},
		"scaled":           {func(c *cluster) { c.autoscalers[0].Spec.ScaleTargetRef.Name = "x" }, "which is not there"},
		"two numbers":      {func(c *cluster) { n := int32(2); ingest(c).replicas = &n }, "replicas of its own"},
		"scaled down": {func(c *cluster) {
			i := slices.IndexFunc(c.workloads, func(w workload) bool { return w.kind == "StatefulSet" })
			for _, a := range c.autoscalers {
				if a.Spec.ScaleTargetRef.Name == c.workloads[i].name {
					a.Spec.Behavior = nil
				}
			}
		}, "takes ingest away by itself"},
		"more than partitions": {func(c *cluster) {
			for _, a := range c.autoscalers {
				a.Spec.MaxReplicas = 100
			}
		}, "2 to 100"},
		"one alone":         {func(c *cluster) { n := int32(1); c.workload("reconcile").replicas = &n }, "nobody wants two of it"},
		"probe path":        {func(c *cluster) { ingest(c).container().ReadinessProbe.HTTPGet.Path = "/ready" }, "probe asks /ready"},
		"probe port":        {func(c *cluster) { ingest(c).container().LivenessProbe.HTTPGet.Port = intstr.FromInt(1) }, "probe asks port 1"},
		"restart for Kafka": {func(c *cluster) { ingest(c).container().LivenessProbe.HTTPGet.Path = "/readyz" }, "liveness probe asks /readyz"},
		"probe patience":    {func(c *cluster) { ingest(c).container().ReadinessProbe.TimeoutSeconds = 1 }, "does not wait"},
		"no probe":          {func(c *cluster) { ingest(c).container().StartupProbe = nil }, "has no startup probe"},
		"grace":             {func(c *cluster) { *ingest(c).pod.Spec.TerminationGracePeriodSeconds = 35 }, "is killed before the 35s"},
		"no pause":          {func(c *cluster) { ingest(c).container().Lifecycle = nil }, "refuses connections"},
		"token":             {func(c *cluster) { ingest(c).pod.Spec.AutomountServiceAccountToken = nil }, "has a token"},
		"service links":     {func(c *cluster) { ingest(c).pod.Spec.EnableServiceLinks = nil }, "KAFKA_PORT"},
		"root":              {func(c *cluster) { *ingest(c).pod.Spec.SecurityContext.RunAsUser = 0 }, "may run as root"},
		"seccomp":           {func(c *cluster) { ingest(c).pod.Spec.SecurityContext.SeccompProfile = nil }, "no seccomp"},
		"capabilities":      {func(c *cluster) { ingest(c).container().SecurityContext.Capabilities.Drop = nil }, "keeps capabilities"},
		"writable":          {func(c *cluster) { ingest(c).container().SecurityContext.ReadOnlyRootFilesystem = nil }, "can write to its image"},
		"host path": {func(c *cluster) {
			ingest(c).pod.Spec.Volumes[0].VolumeSource = corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{}}
		}, "directory of its machine"},
		"password": {func(c *cluster) {
			w := ingest(c).container()
			w.Env = append(w.Env, corev1.EnvVar{Name: "KAFKA_PASSWORD", Value: "x"})
		}, "KAFKA_PASSWORD is in the environment"},
		"no limit":        {func(c *cluster) { ingest(c).container().Resources.Limits = nil }, "limits map[]"},
		"go's limit":      {func(c *cluster) { ingest(c).container().Env[2].Value = "2GiB" }, `GOMEMLIMIT "2GiB"`},
		"kernel's limit":  {func(c *cluster) { ingest(c).container().Resources.Limits["memory"] = resource.MustParse("256Mi") }, "with a limit of 256Mi"},
		"latest":          {func(c *cluster) { setImages(c, "qunfa:latest") }, "has no version"},
		"several of ours": {func(c *cluster) { ingest(c).container().Image = "qunfa:1.0" }, "several images"},
	} {
		t.Run(name, func(t *testing.T) {
			c := decode(t, "overlays/production", built)
			m.mutate(c)
			if got := strings.Join(check(c), "\n"); !strings.Contains(got, m.want) {
				t.Errorf("got %q, want %q", got, m.want)
			}
		})
	}
}

func setImages(c *cluster, image string) {
	for _, w := range c.workloads {
		w.container().Image = image
	}
}
