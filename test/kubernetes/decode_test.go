package kubernetes

import (
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"qunfa/internal/config"
)

// strict decodes what Kubernetes itself defines, and refuses a field that it does not.
var strict = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		appsv1.AddToScheme, autoscalingv2.AddToScheme, batchv1.AddToScheme,
		corev1.AddToScheme, networkingv1.AddToScheme, policyv1.AddToScheme,
		addForeign,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}()

// cluster is what an overlay makes.
type cluster struct {
	variant   string
	generated bool // its Secrets are made by kustomize, not by people
	cfg       *config.Config

	configMaps    []*corev1.ConfigMap
	secrets       []*corev1.Secret
	accounts      []*corev1.ServiceAccount
	services      []*corev1.Service
	ingresses     []*networkingv1.Ingress
	policies      []*networkingv1.NetworkPolicy
	budgets       []*policyv1.PodDisruptionBudget
	autoscalers   []*autoscalingv2.HorizontalPodAutoscaler
	scaledObjects []*ScaledObject
	podMonitors   []*PodMonitor
	scrapeConfigs []*ScrapeConfig
	workloads     []workload
}

// workload is anything that makes pods.
type workload struct {
	kind, name string
	replicas   *int32
	selector   *metav1.LabelSelector // nil for a Job, which makes its own
	pod        *corev1.PodTemplateSpec
	claims     []corev1.PersistentVolumeClaim
}

func (w workload) String() string { return w.kind + " " + w.name }

// component is ingest, sink, reconcile or migrate; empty for what is not ours.
func (w workload) component() string {
	if w.pod.Labels["app.kubernetes.io/name"] != "qunfa" {
		return ""
	}
	return w.pod.Labels["app.kubernetes.io/component"]
}

func (w workload) container() *corev1.Container { return &w.pod.Spec.Containers[0] }

// add decodes one object and keeps it.
func (c *cluster) add(y []byte) error {
	object, _, err := strict.Decode(y, nil, nil)
	if err != nil {
		return err
	}
	switch o := object.(type) {
	case *corev1.Namespace:
	case *corev1.ConfigMap:
		c.configMaps = append(c.configMaps, o)
	case *corev1.Secret:
		c.secrets = append(c.secrets, o)
	case *corev1.ServiceAccount:
		c.accounts = append(c.accounts, o)
	case *corev1.Service:
		c.services = append(c.services, o)
	case *networkingv1.Ingress:
		c.ingresses = append(c.ingresses, o)
	case *networkingv1.NetworkPolicy:
		c.policies = append(c.policies, o)
	case *policyv1.PodDisruptionBudget:
		c.budgets = append(c.budgets, o)
	case *autoscalingv2.HorizontalPodAutoscaler:
		c.autoscalers = append(c.autoscalers, o)
	default:
		return c.addWorkload(object)
	}
	return nil
}

func (c *cluster) addWorkload(object runtime.Object) error {
	switch o := object.(type) {
	case *appsv1.Deployment:
		c.workloads = append(c.workloads, workload{"Deployment", o.Name, o.Spec.Replicas, o.Spec.Selector, &o.Spec.Template, nil})
	case *appsv1.StatefulSet:
		c.workloads = append(c.workloads, workload{"StatefulSet", o.Name, o.Spec.Replicas, o.Spec.Selector, &o.Spec.Template, o.Spec.VolumeClaimTemplates})
	case *batchv1.Job:
		c.workloads = append(c.workloads, workload{"Job", o.Name, nil, nil, &o.Spec.Template, nil})
	case *ScaledObject:
		c.scaledObjects = append(c.scaledObjects, o)
	case *PodMonitor:
		c.podMonitors = append(c.podMonitors, o)
	case *ScrapeConfig:
		c.scrapeConfigs = append(c.scrapeConfigs, o)
	default:
		return fmt.Errorf("a %T, of which this test knows nothing", object)
	}
	return nil
}

func (c *cluster) workload(component string) *workload {
	for i := range c.workloads {
		if c.workloads[i].component() == component {
			return &c.workloads[i]
		}
	}
	return nil
}

// Decoding is strict: a misspelt field would be ignored by kubectl, and its setting lost.
func TestStrict(t *testing.T) {
	const good = "apiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: x}\nspec:\n  maxUnavailable: 1\n"
	for name, c := range map[string]struct{ yaml, want string }{
		"good":                  {good, ""},
		"unknown field":         {good + "  minimumAvailable: 1\n", `unknown field "spec.minimumAvailable"`},
		"other case":            {strings.Replace(good, "maxUnavailable", "maxunavailable", 1), "unknown field"},
		"twice":                 {good + "  maxUnavailable: 2\n", "already"},
		"wrong type":            {strings.Replace(good, "{name: x}", "[x]", 1), "cannot unmarshal"},
		"unknown kind":          {strings.Replace(good, "PodDisruptionBudget", "PodBudget", 1), "no kind"},
		"unknown field, nested": {"apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec:\n  ports:\n    - {port: 1, target: 2}\n", `unknown field "spec.ports[0].target"`},
		"foreign":               {"apiVersion: keda.sh/v1alpha1\nkind: ScaledObject\nmetadata: {name: x}\nspec: {minReplicas: 2}\n", `unknown field "spec.minReplicas"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := new(cluster).add([]byte(c.yaml))
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}
