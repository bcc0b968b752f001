package doctor

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"qunfa/internal/kafka"
)

// When records that wait for the sink are worth a word, and when they are too old.
const (
	lagWarn = time.Minute
	lagFail = 15 * time.Minute
)

// outage is how long Kafka may be out of reach over a weekend. Events wait that
// long in the spool, with the time at which they came.
const outage = 72 * time.Hour

func (d *Doctor) topicNames() []string {
	return []string{d.cfg.Settings.Kafka.Topic, d.cfg.Settings.Kafka.DeadTopic}
}

func (d *Doctor) kafkaChecks() []Check {
	check := func(id, subject, what, doc string, run func(context.Context, Result)) Check {
		return Check{Area: AreaKafka, ID: "kafka." + id, Subject: subject, What: what, Doc: doc, Run: run}
	}
	checks := []Check{check("reach", "", "Kafka answers, and lets us in", runbook+"qunfaproducefailing", d.checkKafka)}
	if d.cfg.Log == nil {
		return checks
	}
	for _, topic := range d.topicNames() {
		on := func(run func(context.Context, Result, string)) func(context.Context, Result) {
			return func(ctx context.Context, r Result) { run(ctx, r, topic) }
		}
		checks = append(checks,
			check("topic", topic, "the topic exists, and keeps what it is given", runbook+"qunfaproducefailing", on(d.checkTopic)),
			check("replicas", topic, "every partition has a leader and enough replicas in sync", runbook+"qunfaproducefailing", on(d.checkReplicas)),
			check("write", topic, "this user may write to it", runbook+"qunfaproducefailing", on(d.checkWrite)))
	}
	s := d.cfg.Settings
	return append(checks,
		check("group", s.Sink.Group, "a sink takes part in its consumer group", runbook+"qunfasinkdown", func(ctx context.Context, r Result) { d.checkGroup(ctx, r, s.Sink.Group, "sink") }),
		check("group", s.Reconcile.Group, "a reconcile takes part in its consumer group", runbook+"qunfareconciledown", func(ctx context.Context, r Result) { d.checkGroup(ctx, r, s.Reconcile.Group, "reconcile") }),
		check("lag", s.Kafka.Topic, "the sink keeps up", runbook+"qunfalaghigh", d.checkLag))
}

// topic describes a topic, once.
func (d *Doctor) topic(ctx context.Context, name string) (kafka.TopicState, error) {
	return d.topics[name].get(func() (kafka.TopicState, error) { return d.cfg.Log.InspectTopic(ctx, name) })
}

// checkKafka asks about a topic. That there is none is for another check to say.
func (d *Doctor) checkKafka(ctx context.Context, r Result) {
	if d.cfg.Log == nil {
		r.Fail("give kafka.brokers, or use --data for a local stack", "the configuration names no Kafka")
		return
	}
	if err := d.kafkaDown(ctx); err != nil {
		explainKafka(ctx, r, d.cfg.Log, err)
		return
	}
	r.OK("reached")
}

// kafkaDown is the error of a Kafka of which nothing can be told.
func (d *Doctor) kafkaDown(ctx context.Context) error {
	_, err := d.topic(ctx, d.cfg.Settings.Kafka.Topic)
	if errors.Is(err, kafka.ErrNoTopic) {
		return nil
	}
	return err
}

// explainKafka adds an error with what Diagnose knows about it.
func explainKafka(ctx context.Context, r Result, log Log, err error) {
	err = log.Diagnose(ctx, err)
	var known *kafka.Diagnosis
	if errors.As(err, &known) {
		r.Fail(known.Advice, "%v", known.Err)
		return
	}
	r.Fail("check kafka.brokers, kafka.tls and kafka.sasl, and the log of the brokers", "%v", err)
}

// needTopic returns the topic, or says why it cannot be looked at. Only one
// check says what is wrong with Kafka as a whole.
func (d *Doctor) needTopic(ctx context.Context, r Result, name string) (kafka.TopicState, bool) {
	if err := d.kafkaDown(ctx); err != nil {
		r.Unchecked("see kafka.reach", "Kafka does not answer")
		return kafka.TopicState{}, false
	}
	t, err := d.topic(ctx, name)
	if err != nil {
		r.Unchecked("see kafka.topic", "there is no topic to look at")
		return t, false
	}
	return t, true
}

func (d *Doctor) checkTopic(ctx context.Context, r Result, name string) {
	if err := d.kafkaDown(ctx); err != nil {
		r.Unchecked("see kafka.reach", "Kafka does not answer")
		return
	}
	t, err := d.topic(ctx, name)
	switch {
	case errors.Is(err, kafka.ErrNoTopic):
		r.Fail("`qunfa migrate` creates it; if it is there, allow this user Describe, Read and Write on it", "the topic does not exist, or this user may not see it")
		return
	case err != nil:
		explainKafka(ctx, r, d.cfg.Log, err)
		return
	}
	d.judgePartitions(r, t)
	if t.SettingsErr != nil {
		r.Unchecked("allow this user DescribeConfigs on the topic, or look with kafka-configs --describe", "%s; its settings may not be read: %v", plural(len(t.Partitions), "partition"), t.SettingsErr)
		return
	}
	d.judgeSettings(r, t)
	if r.None() {
		r.OK("%s, %s, kept %s", plural(len(t.Partitions), "partition"), plural(replicasOf(t), "replica"), kept(t.Settings))
	}
}

func (d *Doctor) judgePartitions(r Result, t kafka.TopicState) {
	k := d.cfg.Settings.Kafka
	if d.cfg.Embedded {
		return // one of each, by its nature
	}
	if n := len(t.Partitions); n != k.Partitions {
		r.Warn("set kafka.partitions to what it is: the number cannot be changed without a new topic", "it has %s, the configuration says %d", plural(n, "partition"), k.Partitions)
	}
	switch n := replicasOf(t); {
	case n == 1:
		r.Warn("three brokers, and kafka-reassign-partitions", "it has one replica: what is acknowledged rests on one disk")
	case n < k.ReplicationFactor:
		r.Warn("use kafka-reassign-partitions", "it has %d replicas, the configuration says %d", n, k.ReplicationFactor)
	}
}

// replicasOf is the least number of replicas of any partition.
func replicasOf(t kafka.TopicState) int {
	n := 0
	for i, p := range t.Partitions {
		if i == 0 || p.Replicas < n {
			n = p.Replicas
		}
	}
	return n
}

// judgeSettings looks for settings with which events get lost, or are refused.
func (d *Doctor) judgeSettings(r Result, t kafka.TopicState) {
	const alter = "kafka-configs --alter --entity-type topics --entity-name "
	set := func(name string) int64 {
		n, err := strconv.ParseInt(t.Settings[name], 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	if policy := t.Settings["cleanup.policy"]; policy != "" && policy != "delete" {
		r.Fail("at once: "+alter+t.Name+" --add-config cleanup.policy=delete", "cleanup.policy is %s: the broker removes all events of an account but the last", policy)
	}
	if ms := set("retention.ms"); ms >= 0 && ms < outage.Milliseconds() {
		r.Warn(alter+t.Name+" --add-config retention.ms=-1, or some days more than the sink may ever stand still", "records are kept for %s only: what the sink has not read by then is lost", days(time.Duration(ms)*time.Millisecond))
	}
	if n := set("retention.bytes"); n >= 0 {
		r.Warn(alter+t.Name+" --add-config retention.bytes=-1", "retention.bytes is %s for each partition: a burst of records removes older ones, read or not", size(uint64(n)))
	}
	if n := set("max.message.bytes"); n >= 0 && n < 1<<20-1<<12 {
		r.Warn(alter+t.Name+" --add-config max.message.bytes=1048588", "max.message.bytes is %d: a callback of WeChat's may be larger, and is refused then", n)
	}
	if ms := set("message.timestamp.before.max.ms"); ms >= 0 && ms < outage.Milliseconds() {
		r.Warn(alter+t.Name+" --add-config message.timestamp.before.max.ms=9223372036854775807", "records older than %s are refused: what waited in the spool that long never gets in", days(time.Duration(ms)*time.Millisecond))
	}
	if t.Settings["unclean.leader.election.enable"] == "true" {
		r.Warn(alter+t.Name+" --add-config unclean.leader.election.enable=false", "unclean.leader.election.enable is true: records that were acknowledged can vanish with a broker")
	}
	judgeMinInSync(r, replicasOf(t), int(set("min.insync.replicas")), alter+t.Name)
}

func judgeMinInSync(r Result, replicas, least int, alter string) {
	switch {
	case replicas >= 3 && least == 1:
		r.Warn(alter+" --add-config min.insync.replicas=2", "min.insync.replicas is 1: what is acknowledged may rest on one disk")
	case replicas >= 2 && least >= replicas:
		r.Warn(alter+" --add-config min.insync.replicas="+strconv.Itoa(replicas-1), "min.insync.replicas is %d of %d: one broker away, and nothing can be written", least, replicas)
	}
}

// kept says in words how long records are kept.
func kept(settings map[string]string) string {
	ms, err := strconv.ParseInt(settings["retention.ms"], 10, 64)
	if err != nil || ms < 0 {
		return "for ever"
	}
	return "for " + days(time.Duration(ms)*time.Millisecond)
}

func (d *Doctor) checkReplicas(ctx context.Context, r Result, name string) {
	t, ok := d.needTopic(ctx, r, name)
	if !ok {
		return
	}
	least, err := strconv.Atoi(t.Settings["min.insync.replicas"])
	if err != nil {
		least = 1
	}
	behind := 0
	for _, p := range t.Partitions {
		switch {
		case p.Leader == "":
			r.Fail("bring the brokers back that hold it: kafka-topics --describe says which", "partition %d has no leader: it can be neither written nor read", p.ID)
		case p.InSync < least:
			r.Fail("bring the missing brokers back; meanwhile callbacks wait in the spool, if there is one", "partition %d has %d of %d replicas in sync, and needs %d: it cannot be written", p.ID, p.InSync, p.Replicas, least)
		case p.InSync < p.Replicas:
			behind++
		}
	}
	if behind > 0 {
		r.Warn("see which broker is away or slow: kafka-topics --describe --under-replicated-partitions", "%s not with all replicas in sync", plural(behind, "partition"))
	}
	if r.None() {
		r.OK("all in sync")
	}
}

func (d *Doctor) checkWrite(ctx context.Context, r Result, name string) {
	if _, ok := d.needTopic(ctx, r, name); !ok {
		return
	}
	switch err := d.cfg.Log.CheckWrite(ctx, name); kafka.ClassOf(err) {
	case kafka.ClassDenied:
		r.Fail("allow it: kafka-acls --add --operation Write --operation Describe --topic "+name+" --allow-principal User:…; nothing is written to find this out", "this user may not write to it: %v", err)
	default:
		if err != nil {
			explainKafka(ctx, r, d.cfg.Log, err)
			return
		}
		r.OK("allowed; nothing was written to find out")
	}
}

func (d *Doctor) checkGroup(ctx context.Context, r Result, group, service string) {
	if err := d.kafkaDown(ctx); err != nil {
		r.Unchecked("see kafka.reach", "Kafka does not answer")
		return
	}
	g, err := d.cfg.Log.InspectGroup(ctx, group)
	switch {
	case kafka.ClassOf(err) == kafka.ClassDenied && err != nil:
		r.Fail("allow it: kafka-acls --add --operation Read --group "+group+" --allow-principal User:…", "this user may not use the group: %v", err)
	case err != nil:
		explainKafka(ctx, r, d.cfg.Log, err)
	case g.Members == 0 && service == "sink":
		r.Fail("start one: events wait in Kafka until then", "no sink takes part: nothing is written to ClickHouse")
	case g.Members == 0:
		r.Warn("start one", "no %s takes part: nobody asks WeChat about messages whose callback never came", service)
	default:
		r.OK("%s, state %s", plural(g.Members, "member"), g.State)
	}
}

func (d *Doctor) checkLag(ctx context.Context, r Result) {
	if _, ok := d.needTopic(ctx, r, d.cfg.Settings.Kafka.Topic); !ok {
		return
	}
	state := NewLogState(d.topicNames()[0], d.topicNames()[1])
	if err := state.Ask(ctx, d.cfg.Log, d.cfg.Settings.Sink.Group); err != nil {
		explainKafka(ctx, r, d.cfg.Log, err)
		return
	}
	if *state.Lag == 0 {
		r.OK("nothing waits")
		return
	}
	age := d.oldestWaiting(ctx, state)
	text := fmt.Sprintf("%s not yet in ClickHouse", waits(*state.Lag))
	if age > 0 {
		text += ", the oldest for " + days(age)
	}
	switch {
	case age >= lagFail:
		r.Fail("see what the sink says: its log and /readyz name what it waits for", "%s", text)
	case age >= lagWarn:
		r.Warn("wait if it is catching up; else see the sink's log and /readyz", "%s", text)
	default:
		r.OK("%s", text)
	}
}

func waits(n int64) string {
	if n == 1 {
		return "1 record is"
	}
	return fmt.Sprintf("%d records are", n)
}

// oldestWaiting is how long ago the first record came that the sink has not
// committed. A partition that cannot tell is passed over.
func (d *Doctor) oldestWaiting(ctx context.Context, state LogState) time.Duration {
	var age time.Duration
	for _, p := range state.Partitions {
		if p.Lag == 0 {
			continue
		}
		m, found, err := d.cfg.Log.ReadAt(ctx, state.Topic, p.Partition, p.End-p.Lag)
		if err == nil && found {
			age = max(age, d.cfg.Clock().Sub(m.Time))
		}
	}
	return age
}

// size writes a number of bytes.
func size(n uint64) string {
	for _, unit := range []struct {
		shift uint
		name  string
	}{{40, "TiB"}, {30, "GiB"}, {20, "MiB"}, {10, "KiB"}} {
		if n >= 1<<unit.shift {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(uint64(1)<<unit.shift), unit.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}
