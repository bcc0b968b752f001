package kubernetes

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The parts that the tree uses of what the Prometheus Operator and KEDA define. Written
// down here rather than imported: these modules bring whole controllers along.

// PodMonitor is monitoring.coreos.com/v1.
type PodMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Selector            metav1.LabelSelector `json:"selector"`
		PodMetricsEndpoints []struct {
			Port        string    `json:"port"`
			Path        string    `json:"path"`
			Interval    string    `json:"interval"`
			Relabelings []relabel `json:"relabelings"`
		} `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

// ScrapeConfig is monitoring.coreos.com/v1alpha1.
type ScrapeConfig struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		JobName        string `json:"jobName"`
		MetricsPath    string `json:"metricsPath"`
		ScrapeInterval string `json:"scrapeInterval"`
		StaticConfigs  []struct {
			Targets []string          `json:"targets"`
			Labels  map[string]string `json:"labels"`
		} `json:"staticConfigs"`
		Relabelings []relabel `json:"relabelings"`
	} `json:"spec"`
}

type relabel struct {
	SourceLabels []string `json:"sourceLabels,omitempty"`
	TargetLabel  string   `json:"targetLabel"`
	Replacement  string   `json:"replacement,omitempty"`
}

// ScaledObject is keda.sh/v1alpha1.
type ScaledObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		ScaleTargetRef  autoscalingv2.CrossVersionObjectReference `json:"scaleTargetRef"`
		MinReplicaCount int32                                     `json:"minReplicaCount"`
		MaxReplicaCount int32                                     `json:"maxReplicaCount"`
		PollingInterval int32                                     `json:"pollingInterval"`
		CooldownPeriod  int32                                     `json:"cooldownPeriod"`
		Fallback        struct {
			FailureThreshold int32 `json:"failureThreshold"`
			Replicas         int32 `json:"replicas"`
		} `json:"fallback"`
		Triggers []struct {
			Type       string            `json:"type"`
			MetricType string            `json:"metricType"`
			Metadata   map[string]string `json:"metadata"`
		} `json:"triggers"`
	} `json:"spec"`
}

// DeepCopyObject implements [runtime.Object]; nothing here is ever copied.
func (o *PodMonitor) DeepCopyObject() runtime.Object { return o }

// DeepCopyObject implements [runtime.Object]; nothing here is ever copied.
func (o *ScrapeConfig) DeepCopyObject() runtime.Object { return o }

// DeepCopyObject implements [runtime.Object]; nothing here is ever copied.
func (o *ScaledObject) DeepCopyObject() runtime.Object { return o }

func addForeign(s *runtime.Scheme) error {
	s.AddKnownTypes(schema.GroupVersion{Group: "monitoring.coreos.com", Version: "v1"}, &PodMonitor{})
	s.AddKnownTypes(schema.GroupVersion{Group: "monitoring.coreos.com", Version: "v1alpha1"}, &ScrapeConfig{})
	s.AddKnownTypes(schema.GroupVersion{Group: "keda.sh", Version: "v1alpha1"}, &ScaledObject{})
	return nil
}
