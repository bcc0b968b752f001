package kubernetes

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"qunfa/internal/daemon"
)

// findings collects what is wrong with a cluster.
type findings []string

func (f *findings) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }

// checks are all the rules that an overlay has to keep.
var checks = []func(*cluster, *findings){
	checkSelectors, checkServices, checkIngresses, checkPolicies, checkReferences,
	checkBudgets, checkAutoscalers, checkProbes, checkGrace, checkConfinement, checkMemory, checkImages,
}

func check(c *cluster) []string {
	var f findings
	for _, rule := range checks {
		rule(c, &f)
	}
	return f
}

func TestManifests(t *testing.T) {
	dir := copyTree(t)
	for _, v := range variants {
		t.Run(v, func(t *testing.T) {
			c := load(t, dir, v)
			for _, component := range []string{"ingest", "sink", "reconcile", "migrate"} {
				if c.workload(component) == nil {
					t.Errorf("no workload for %s", component)
				}
			}
			for _, finding := range check(c) {
				t.Error(finding)
			}
		})
	}
}

// selects tells whether a selector matches the labels. An empty one matches all.
func selects(s *metav1.LabelSelector, set map[string]string) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	return err == nil && selector.Matches(labels.Set(set))
}

// selected are the workloads whose pods match.
func (c *cluster) selected(s *metav1.LabelSelector) []workload {
	var list []workload
	for _, w := range c.workloads {
		if selects(s, w.pod.Labels) {
			list = append(list, w)
		}
	}
	return list
}

func checkSelectors(c *cluster, f *findings) {
	for _, w := range c.workloads {
		if w.selector != nil && !selects(w.selector, w.pod.Labels) {
			f.add("%s does not select its own pods", w)
		}
		for _, spread := range w.pod.Spec.TopologySpreadConstraints {
			if !slices.Equal(names(c.selected(spread.LabelSelector)), []string{w.name}) {
				f.add("%s spreads other pods than its own", w)
			}
		}
	}
}

func names(list []workload) []string {
	var n []string
	for _, w := range list {
		n = append(n, w.name)
	}
	return n
}

// hasPort tells whether the pods of a workload have the port, by number or name.
func (w workload) hasPort(port intstr.IntOrString) bool {
	for _, container := range w.pod.Spec.Containers {
		for _, p := range container.Ports {
			if p.Name == port.StrVal && port.StrVal != "" || p.ContainerPort == port.IntVal {
				return true
			}
		}
	}
	return false
}

func checkServices(c *cluster, f *findings) {
	for _, s := range c.services {
		pods := c.selected(&metav1.LabelSelector{MatchLabels: s.Spec.Selector})
		if len(pods) != 1 {
			f.add("Service %s selects the pods of %v, want one workload", s.Name, names(pods))
			continue
		}
		for _, p := range s.Spec.Ports {
			if !pods[0].hasPort(p.TargetPort) {
				f.add("Service %s leads to port %s, which %s does not have", s.Name, p.TargetPort.String(), pods[0])
			}
		}
	}
}

// checkIngresses allows what is WeChat's and nothing else.
func checkIngresses(c *cluster, f *findings) {
	for _, i := range c.ingresses {
		for _, rule := range i.Spec.Rules {
			var paths []string
			for _, p := range rule.HTTP.Paths {
				paths = append(paths, p.Path)
				if backend := p.Backend.Service; backend.Port.Name != "callbacks" || !c.hasServicePort(backend) {
					f.add("Ingress %s leads %s to port %q of Service %s", i.Name, p.Path, backend.Port.Name, backend.Name)
				}
			}
			if !slices.Equal(paths, []string{"/callback", "/platform"}) {
				f.add("Ingress %s lets %v in", i.Name, paths)
			}
		}
	}
}

func (c *cluster) hasServicePort(b *networkingv1.IngressServiceBackend) bool {
	return slices.ContainsFunc(c.services, func(s *corev1.Service) bool {
		return s.Name == b.Name && slices.ContainsFunc(s.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == b.Port.Name })
	})
}

func checkPolicies(c *cluster, f *findings) {
	for _, p := range c.policies {
		pods := c.selected(&p.Spec.PodSelector)
		if len(pods) == 0 {
			f.add("NetworkPolicy %s is about no pod", p.Name)
		}
		for _, rule := range p.Spec.Ingress {
			for _, port := range rule.Ports {
				for _, w := range pods {
					if w.component() != "migrate" && !w.hasPort(*port.Port) {
						f.add("NetworkPolicy %s opens port %s, which %s does not have", p.Name, port.Port.String(), w)
					}
				}
			}
		}
	}
	for _, w := range c.workloads {
		if w.component() != "" && !c.confined(w) {
			f.add("%s is under no NetworkPolicy for both directions", w)
		}
	}
}

func (c *cluster) confined(w workload) bool {
	return slices.ContainsFunc(c.policies, func(p *networkingv1.NetworkPolicy) bool {
		return selects(&p.Spec.PodSelector, w.pod.Labels) && len(p.Spec.PolicyTypes) == 2
	})
}

func checkReferences(c *cluster, f *findings) {
	for _, w := range c.workloads {
		spec := w.pod.Spec
		if a := spec.ServiceAccountName; a != "" && !slices.ContainsFunc(c.accounts, func(s *corev1.ServiceAccount) bool { return s.Name == a }) {
			f.add("%s: there is no ServiceAccount %s", w, a)
		}
		for _, v := range spec.Volumes {
			switch {
			case v.ConfigMap != nil && c.configMap(v.ConfigMap.Name) == nil:
				f.add("%s: there is no ConfigMap %s", w, v.ConfigMap.Name)
			case v.Secret != nil && c.secretKeys(v.Secret.SecretName) == nil:
				f.add("%s: there is no Secret %s", w, v.Secret.SecretName)
			}
		}
		c.checkMounts(w, f)
	}
}

func (c *cluster) checkMounts(w workload, f *findings) {
	volumes := map[string]bool{}
	for _, v := range w.pod.Spec.Volumes {
		volumes[v.Name] = true
	}
	for _, v := range w.claims {
		volumes[v.Name] = true
	}
	for _, m := range w.container().VolumeMounts {
		if _, ok := volumes[m.Name]; !ok {
			f.add("%s mounts %s, which is no volume of it", w, m.Name)
		}
		delete(volumes, m.Name)
	}
	for name := range volumes {
		f.add("%s does not mount its volume %s", w, name)
	}
}

func (c *cluster) configMap(name string) *corev1.ConfigMap {
	for _, m := range c.configMaps {
		if m.Name == name {
			return m
		}
	}
	return nil
}

// secretKeys are the keys of a Secret, whoever makes it; nil if nobody does.
func (c *cluster) secretKeys(name string) []string {
	for _, s := range c.secrets {
		if s.Name == name {
			var keys []string
			for key := range s.Data {
				keys = append(keys, key)
			}
			return keys
		}
	}
	if c.generated {
		return nil
	}
	return provided[name]
}

func checkBudgets(c *cluster, f *findings) {
	covered := map[string]bool{}
	for _, b := range c.budgets {
		pods := c.selected(b.Spec.Selector)
		if len(pods) != 1 {
			f.add("PodDisruptionBudget %s is about %v, want one workload", b.Name, names(pods))
			continue
		}
		covered[pods[0].component()] = b.Spec.MaxUnavailable != nil && b.Spec.MaxUnavailable.IntVal == 1
	}
	for _, component := range []string{"ingest", "sink", "reconcile"} {
		if !covered[component] {
			f.add("no PodDisruptionBudget lets one %s go at a time", component)
		}
	}
}

// checkAutoscalers: what is scaled exists, nobody else sets its number, and ingest
// never gets fewer by itself, since its disk may hold events.
func checkAutoscalers(c *cluster, f *findings) {
	scaled := map[string]bool{}
	target := func(name string, ref autoscalingv2.CrossVersionObjectReference, least, most int32) *workload {
		i := slices.IndexFunc(c.workloads, func(w workload) bool { return w.kind == ref.Kind && w.name == ref.Name })
		if i < 0 {
			f.add("%s scales %s %s, which is not there", name, ref.Kind, ref.Name)
			return nil
		}
		w := &c.workloads[i]
		if w.replicas != nil {
			f.add("%s has a number of replicas of its own beside %s", w, name)
		}
		if scaled[w.name] {
			f.add("%s is scaled twice", w)
		}
		scaled[w.name] = true
		if least < 1 || most < least || w.component() == "sink" && int(most) > c.cfg.Kafka.Partitions {
			f.add("%s: %d to %d", name, least, most)
		}
		if c.variant != "overlays/demo" && least < 2 {
			f.add("%s may leave %d of %s, want 2", name, least, w)
		}
		return w
	}
	for _, a := range c.autoscalers {
		w := target(a.Name, a.Spec.ScaleTargetRef, *a.Spec.MinReplicas, a.Spec.MaxReplicas)
		if w != nil && w.component() == "ingest" && !neverDown(a) {
			f.add("%s takes ingest away by itself", a.Name)
		}
	}
	for _, o := range c.scaledObjects {
		target(o.Name, o.Spec.ScaleTargetRef, o.Spec.MinReplicaCount, o.Spec.MaxReplicaCount)
	}
	for _, w := range c.workloads {
		if w.kind != "Job" && !scaled[w.name] && (w.replicas == nil || c.variant != "overlays/demo" && *w.replicas < 2) {
			f.add("%s: nobody wants two of it", w)
		}
	}
}

func neverDown(a *autoscalingv2.HorizontalPodAutoscaler) bool {
	b := a.Spec.Behavior
	return b != nil && b.ScaleDown != nil && b.ScaleDown.SelectPolicy != nil && *b.ScaleDown.SelectPolicy == autoscalingv2.DisabledPolicySelect
}

// probes are what the kubelet asks of a pod.
func probes(w workload) map[string]*corev1.Probe {
	c := w.container()
	return map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe}
}

func checkProbes(c *cluster, f *findings) {
	for _, w := range c.workloads {
		ours := w.component() != "" && w.kind != "Job"
		for name, p := range probes(w) {
			switch {
			case p == nil && ours:
				f.add("%s has no %s probe", w, name)
			case p != nil && p.HTTPGet != nil && !w.hasPort(p.HTTPGet.Port):
				f.add("%s: the %s probe asks port %s, which it does not have", w, name, p.HTTPGet.Port.String())
			case p != nil && ours && p.HTTPGet.Path != map[string]string{"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}[name]:
				f.add("%s: the %s probe asks %s", w, name, p.HTTPGet.Path)
			}
		}
		// Its checks take up to two seconds: a shorter patience sees no answer at all.
		if ours && w.container().ReadinessProbe != nil && w.container().ReadinessProbe.TimeoutSeconds < 3 {
			f.add("%s: the readiness probe does not wait for the answer", w)
		}
	}
}

// checkGrace: SIGKILL must not come before the process has ended by itself.
func checkGrace(c *cluster, f *findings) {
	for _, w := range c.workloads {
		if w.component() == "" || w.kind == "Job" {
			continue
		}
		least := daemon.DefaultStopTimeout
		if l := w.container().Lifecycle; l != nil && l.PreStop != nil && l.PreStop.Sleep != nil {
			least += time.Duration(l.PreStop.Sleep.Seconds) * time.Second
		}
		if grace := w.pod.Spec.TerminationGracePeriodSeconds; grace == nil || time.Duration(*grace)*time.Second <= least {
			f.add("%s is killed before the %s that it may take have passed", w, least)
		}
	}
	if w := c.workload("ingest"); w != nil && w.container().Lifecycle == nil {
		f.add("%s refuses connections while load balancers still send some", w)
	}
}

// writesItsImage are programs that need to.
var writesItsImage = []string{"kafka"}

func checkConfinement(c *cluster, f *findings) {
	for _, w := range c.workloads {
		s, container := w.pod.Spec, w.container()
		sc := container.SecurityContext
		switch {
		case len(s.Containers) != 1 || len(s.InitContainers) != 0:
			f.add("%s: this test looks at one container", w)
		case !isFalse(s.AutomountServiceAccountToken):
			f.add("%s has a token", w)
		case !isFalse(s.EnableServiceLinks):
			f.add("%s gets variables that name every Service, KAFKA_PORT for instance", w)
		case s.HostNetwork || s.HostPID || s.HostIPC:
			f.add("%s is in a namespace of its machine", w)
		case s.SecurityContext == nil || !isTrue(s.SecurityContext.RunAsNonRoot) || s.SecurityContext.RunAsUser == nil || *s.SecurityContext.RunAsUser == 0:
			f.add("%s may run as root", w)
		case s.SecurityContext.SeccompProfile == nil || s.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
			f.add("%s has no seccomp profile", w)
		case sc == nil || !isFalse(sc.AllowPrivilegeEscalation) || sc.Capabilities == nil || !slices.Equal(sc.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(sc.Capabilities.Add) > 0:
			f.add("%s keeps capabilities", w)
		case !isTrue(sc.ReadOnlyRootFilesystem) && !slices.Contains(writesItsImage, w.name):
			f.add("%s can write to its image", w)
		}
		for _, v := range s.Volumes {
			if v.HostPath != nil {
				f.add("%s mounts a directory of its machine", w)
			}
		}
		for _, e := range container.Env {
			if secretly.MatchString(e.Name) {
				f.add("%s: %s is in the environment", w, e.Name)
			}
		}
	}
}

var secretly = regexp.MustCompile(`(?i)(password|token|secret|key)$`)

func isTrue(b *bool) bool  { return b != nil && *b }
func isFalse(b *bool) bool { return b != nil && !*b }

// checkMemory: a limit there is, and Go knows of it before the kernel does.
func checkMemory(c *cluster, f *findings) {
	for _, w := range c.workloads {
		r := w.container().Resources
		limit, ok := r.Limits[corev1.ResourceMemory]
		if !ok || r.Requests.Memory().IsZero() || r.Requests.Cpu().IsZero() {
			f.add("%s: requests %v, limits %v", w, r.Requests, r.Limits)
		}
		if w.component() == "" || w.kind == "Job" {
			continue
		}
		soft, err := resource.ParseQuantity(strings.TrimSuffix(env(w, "GOMEMLIMIT"), "B"))
		if err != nil || soft.Value() >= limit.Value() || soft.Value() < limit.Value()*8/10 {
			f.add("%s: GOMEMLIMIT %q with a limit of %s", w, env(w, "GOMEMLIMIT"), limit.String())
		}
	}
}

func env(w workload, name string) string {
	for _, e := range w.container().Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

var pinned = regexp.MustCompile(`^[a-z0-9./-]+:v?[0-9]+(\.[0-9]+)+$`)

// checkImages: all of ours are one image, and every other has a version.
func checkImages(c *cluster, f *findings) {
	ours := map[string]bool{}
	for _, w := range c.workloads {
		image := w.container().Image
		if w.component() != "" || w.name == "simulator" {
			ours[image] = true
		} else if !pinned.MatchString(image) {
			f.add("%s: image %s has no version", w, image)
		}
	}
	if len(ours) != 1 {
		f.add("several images of qunfa: %v", ours)
	}
	for image := range ours {
		if image != "qunfa:dev" && !pinned.MatchString(image) {
			f.add("image %s has no version", image)
		}
	}
}
