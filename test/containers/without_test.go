//go:build containers

package containers

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"qunfa/internal/app"
	"qunfa/internal/wechat/wechattest"
)

// What is said about a right that is missing.
const (
	noTopic = "may not use the topic: allow Read and Write on it"
	noGroup = "may not use the consumer group: allow Read on the group"
)

// without says, for every right, how it is missed: what to do without it, and
// where to look for the message.
func (i *installation) without() map[right]func(context.Context, *testing.T) {
	m := map[right]func(context.Context, *testing.T){}
	for _, topic := range []string{eventTopic, deadTopic} {
		m[right{"qunfa-migrate", "Create", "topic", topic}] = i.migrateSays(noTopic, false)
		m[right{"qunfa-migrate", "Describe", "topic", topic}] = i.migrateSays(noTopic, false)
		m[right{"qunfa-migrate", "DescribeConfigs", "topic", topic}] = i.migrateSays("allow DescribeConfigs on the topic", true)
	}
	m[right{"qunfa-ingest", "Write", "topic", eventTopic}] = func(ctx context.Context, t *testing.T) {
		i.callback(ctx, t, "10", http.StatusServiceUnavailable)
		i.readySays(ctx, t, "ingest", noTopic)
	}
	m[right{"qunfa-ingest", "Write", "topic", deadTopic}] = i.logSays("ingest", noTopic, func(ctx context.Context, t *testing.T) {
		i.spoiltCallback(ctx, t, http.StatusServiceUnavailable)
	})
	m[right{"qunfa-sink", "Read", "topic", eventTopic}] = func(ctx context.Context, t *testing.T) { i.readySays(ctx, t, "sink", noTopic) }
	m[right{"qunfa-sink", "Read", "group", "qunfa-sink"}] = func(ctx context.Context, t *testing.T) { i.readySays(ctx, t, "sink", noGroup) }
	m[right{"qunfa-sink", "Write", "topic", deadTopic}] = i.logSays("sink", noTopic, i.spoiltRecord)
	m[right{"qunfa-reconcile", "Read", "group", "qunfa-reconcile"}] = func(ctx context.Context, t *testing.T) { i.readySays(ctx, t, "reconcile", noGroup) }
	m[right{"qunfa-reconcile", "Describe", "group", "qunfa-sink"}] = func(ctx context.Context, t *testing.T) {
		i.readySays(ctx, t, "reconcile", "Describe on the sink's to reconcile")
	}
	m[right{"qunfa-reconcile", "Write", "topic", eventTopic}] = i.logSays("reconcile", noTopic, func(ctx context.Context, t *testing.T) {
		i.submit(ctx, t, wechattest.Success().Never())
	})
	m[right{"qunfa-operator", "Read", "topic", eventTopic}] = i.commandSays("replay --from topic --dry-run", noTopic)
	m[right{"qunfa-operator", "Write", "topic", eventTopic}] = i.commandSays("dead replay --reason uninsertable", noTopic)
	m[right{"qunfa-operator", "Read", "topic", deadTopic}] = i.commandSays("dead list", noTopic)
	m[right{"qunfa-operator", "Write", "topic", deadTopic}] = i.commandSays("dead drop --reason uninsertable --yes", noTopic)
	m[right{"qunfa-operator", "Describe", "group", "qunfa-sink"}] = i.commandSays("status", "Describe on the sink's to reconcile and to operators")
	return m
}

// migrateSays prepares the topics alone, which are there or not, and may fail.
func (i *installation) migrateSays(advice string, there bool) func(context.Context, *testing.T) {
	return func(ctx context.Context, t *testing.T) {
		if _, err := i.b.admin(t).DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{eventTopic, deadTopic}}); err != nil {
			t.Fatal(err)
		}
		if there {
			if err := app.Migrate(ctx, i.b.as("admin"), app.Options{}, nil); err != nil {
				t.Fatal(err)
			}
		}
		cfg := i.config("migrate")
		cfg.ClickHouse.Addr = nil
		said := ""
		if err := app.Migrate(ctx, cfg, app.Options{}, func(line string) { said += line + "\n" }); err != nil {
			said += err.Error()
		}
		if !strings.Contains(said, advice) {
			t.Errorf("migrate says %q, want %q", said, advice)
		}
	}
}

func (i *installation) readySays(ctx context.Context, t *testing.T, service, advice string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	waitFor(ctx, t, advice, func() string {
		_, why := i.services[service].ready()
		return why
	})
}

// logSays looks at what was logged since.
func (i *installation) logSays(service, advice string, do func(context.Context, *testing.T)) func(context.Context, *testing.T) {
	return func(ctx context.Context, t *testing.T) {
		before := len(i.logs[service].String())
		do(ctx, t)
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		waitFor(ctx, t, advice, func() string { return i.logs[service].String()[before:] })
	}
}

func (i *installation) commandSays(command, advice string) func(context.Context, *testing.T) {
	return func(ctx context.Context, t *testing.T) {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		i.letter(ctx, t)
		said, err := i.qunfa(ctx, command)
		if err == nil || !strings.Contains(said, advice) {
			t.Errorf("qunfa %s: %v, %q, want %q", command, err, said, advice)
		}
	}
}
