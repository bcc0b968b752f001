package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"qunfa/internal/clickhouse"
	"qunfa/internal/events"
)

// Room on a disk, as a share of it and in bytes. ClickHouse needs as much again
// as the largest parts have, to merge them.
const (
	roomWarn      = 0.10
	roomFail      = 0.03
	roomFailBytes = 256 << 20
)

func (d *Doctor) clickhouseChecks() []Check {
	check := func(id, what, doc string, run func(context.Context, Result)) Check {
		return Check{Area: AreaClickHouse, ID: "clickhouse." + id, What: what, Doc: doc, Run: run}
	}
	reach := check("reach", "ClickHouse answers, and lets us in", runbook+"qunfainsertfailing", d.checkDatabase)
	if d.cfg.Database == nil {
		return []Check{reach}
	}
	// What needs an answer is not asked of a server that gives none.
	up := func(run func(context.Context, Result)) func(context.Context, Result) {
		return func(ctx context.Context, r Result) {
			if d.databaseUp(ctx) != nil {
				r.Unchecked("see clickhouse.reach and clickhouse.schema", "the database cannot be asked")
				return
			}
			run(ctx, r)
		}
	}
	return []Check{
		reach,
		check("schema", "the tables are those of this version, and the days those of the configuration", operations+"upgrading", d.checkSchema),
		check("grants", "this user may do what the services do", runbook+"qunfainsertfailing", up(d.checkGrants)),
		check("disk", "there is room", runbook+"qunfainsertfailing", up(d.checkDisks)),
		check("tables", "no part was set aside, and every replica takes rows", "docs/rebuild.md", up(d.checkTables)),
		check("clock", "its clock is ours", runbook+"qunfaclockoff", up(d.checkDatabaseClock)),
		check("complete", "every record of the log is accounted for", "docs/guarantees.md#p2-every-event-counts-once", up(d.checkComplete)),
		check("events", "every event that was noted as stored is there", "docs/rebuild.md", up(d.checkLost)),
		check("dead", "no dead letters are open", runbook+"qunfadeadletters", up(d.checkDead)),
		check("pending", "no message waits too long for its outcome", runbook+"qunfapendingtoolong", up(d.checkPending)),
	}
}

// databaseUp is nil if the database can be asked. It is found out once.
func (d *Doctor) databaseUp(ctx context.Context) error {
	_, err := d.database.get(func() (struct{}, error) { return struct{}{}, d.cfg.Database.CheckSchema(ctx) })
	return err
}

func (d *Doctor) checkDatabase(ctx context.Context, r Result) {
	if d.cfg.Database == nil {
		r.Fail("give clickhouse.addr, or use --data for a local stack", "the configuration names no ClickHouse")
		return
	}
	s, err := d.cfg.Database.InspectServer(ctx)
	if err != nil && clickhouse.ClassOf(err) != clickhouse.ClassMissing {
		explainDatabase(r, err)
		return
	}
	if err != nil {
		r.OK("reached, without the database: see clickhouse.schema")
		return
	}
	r.OK("ClickHouse %s, up for %s", s.Version, days(s.Uptime))
}

func explainDatabase(r Result, err error) {
	remedy := "check clickhouse.addr (the native protocol, usually port 9000 or, with TLS, 9440), clickhouse.tls, and whether the server runs"
	switch clickhouse.ClassOf(err) {
	case clickhouse.ClassAuth:
		remedy = "check clickhouse.username and its password on both sides, and its rights: `qunfa migrate --grants` prints them"
	case clickhouse.ClassFull:
		remedy = "make room on the server's disk"
	case clickhouse.ClassMissing, clickhouse.ClassSchema:
		remedy = "run `qunfa migrate` of this version, as the user who owns the database"
	}
	r.Fail(remedy, "%v", err)
}

func (d *Doctor) checkSchema(ctx context.Context, r Result) {
	if err := d.databaseUp(ctx); err != nil {
		switch clickhouse.ClassOf(err) {
		case clickhouse.ClassMissing, clickhouse.ClassSchema:
			explainDatabase(r, err)
		default:
			r.Unchecked("see clickhouse.reach", "the database cannot be asked")
		}
		return
	}
	zone, err := d.cfg.Database.Location(ctx)
	switch {
	case err != nil:
		explainDatabase(r, err)
	case zone.String() != d.cfg.Settings.TimeZone:
		r.Fail("set time_zone to what the database has; to change it there, build the database anew (docs/rebuild.md)", "the days of the database are those of %s, the configuration says %s", zone, d.cfg.Settings.TimeZone)
	default:
		r.OK("of this version; days in %s", zone)
	}
}

func (d *Doctor) checkGrants(ctx context.Context, r Result) {
	missing, err := d.cfg.Database.MissingGrants(ctx, clickhouse.RoleWriter)
	switch {
	case err != nil:
		r.Unchecked("", "the server does not say which rights this user has: %v", err)
	case len(missing) > 0:
		r.Fail("as an administrator: "+strings.Join(missing, " TO …; ")+" TO …; (`qunfa migrate --grants` prints all of them)", "this user lacks %s", plural(len(missing), "right"))
	default:
		r.OK("all there")
	}
}

func (d *Doctor) checkDisks(ctx context.Context, r Result) {
	disks, err := d.cfg.Database.Disks(ctx)
	if err != nil {
		r.Unchecked("allow SELECT on system.disks", "the server does not say how much room it has: %v", err)
		return
	}
	for _, disk := range disks {
		judgeRoom(r.About(disk.Name), disk.Free, disk.Total, "ClickHouse takes no rows when there is none; events wait in Kafka")
	}
	if len(disks) == 0 {
		r.Unchecked("", "the server names no disk whose size is known")
	}
}

// judgeRoom says whether a disk has room.
func judgeRoom(r Result, free, total uint64, otherwise string) {
	share := float64(free) / float64(max(total, 1))
	text := fmt.Sprintf("%s free of %s (%.0f%%)", size(free), size(total), 100*share)
	switch {
	case share < roomFail || free < roomFailBytes:
		r.Fail("make room now: "+otherwise, "%s", text)
	case share < roomWarn:
		r.Warn("make room: "+otherwise, "%s", text)
	default:
		r.OK("%s", text)
	}
}

func (d *Doctor) checkTables(ctx context.Context, r Result) {
	sick, err := d.cfg.Database.SickTables(ctx)
	if err != nil {
		r.Unchecked("allow SELECT on system.detached_parts and system.replicas", "the server does not say: %v", err)
		return
	}
	for _, t := range sick {
		if t.Detached > 0 {
			r.About(t.Table).Fail("find out why (the server's log; usually the disk), then `qunfa replay --from topic` brings back what was in them",
				"%s set aside as broken: rows are missing from answers", plural(int(t.Detached), "part"))
		}
		if t.ReadOnly {
			r.About(t.Table).Fail("see whether ClickHouse Keeper is up and the server reaches it", "the replica is read-only: it takes no rows")
		}
	}
	if r.None() {
		r.OK("no part set aside")
	}
}

func (d *Doctor) checkDatabaseClock(ctx context.Context, r Result) {
	before := d.cfg.Clock()
	s, err := d.cfg.Database.InspectServer(ctx)
	if err != nil {
		explainDatabase(r, err)
		return
	}
	off := time.Duration(0)
	switch after := d.cfg.Clock(); {
	case s.Now.Before(before):
		off = before.Sub(s.Now)
	case s.Now.After(after):
		off = after.Sub(s.Now)
	}
	d.judgeSkew(r, off, "that of ClickHouse")
}

// checkComplete compares the offsets that are accounted for with those that the
// log has. It asks in the order in which records move, backwards: what is
// committed must be stored, and what is stored must be in the log.
func (d *Doctor) checkComplete(ctx context.Context, r Result) {
	topic := d.cfg.Settings.Kafka.Topic
	state := NewLogState(topic, d.cfg.Settings.Kafka.DeadTopic)
	if d.cfg.Log == nil || d.kafkaDown(ctx) != nil {
		d.completeAlone(ctx, r)
		return
	}
	committed, err := d.cfg.Log.CommittedOffsets(ctx, d.cfg.Settings.Sink.Group, topic)
	if err != nil {
		d.completeAlone(ctx, r)
		return
	}
	stored, err := d.stored(ctx)
	if err != nil {
		explainDatabase(r, err)
		return
	}
	if err := state.Ask(ctx, d.cfg.Log, d.cfg.Settings.Sink.Group); err != nil {
		r.Unchecked("see the checks of Kafka", "the log cannot be asked: %v", err)
		return
	}
	records := int64(0)
	for _, p := range state.Partitions {
		c, ok := stored[p.Partition]
		judgeCoverage(r.About(fmt.Sprintf("%s/%d", topic, p.Partition)), c, ok, p, committed[p.Partition])
		records += c.Records
	}
	if r.None() {
		r.OK("%s in %s, none passed over", plural(int(records), "record"), plural(len(state.Partitions), "partition"))
	}
}

// stored is what the database holds of the topic as it is now, by partition.
func (d *Doctor) stored(ctx context.Context) (map[int32]clickhouse.Coverage, error) {
	topic := d.cfg.Settings.Kafka.Topic
	generation, err := d.cfg.Database.Generation(ctx, topic)
	if err != nil {
		return nil, err
	}
	all, err := d.cfg.Database.Coverage(ctx)
	if err != nil {
		return nil, err
	}
	found := map[int32]clickhouse.Coverage{}
	for _, c := range all {
		if c.Topic == clickhouse.LogName(topic, generation) {
			found[c.Partition] = c
		}
	}
	return found, nil
}

// completeAlone looks at what is stored where the log cannot be asked.
func (d *Doctor) completeAlone(ctx context.Context, r Result) {
	stored, err := d.stored(ctx)
	if err != nil {
		explainDatabase(r, err)
		return
	}
	for _, p := range slices.Sorted(maps.Keys(stored)) {
		judgeGaps(r.About(fmt.Sprintf("%s/%d", d.cfg.Settings.Kafka.Topic, p)), stored[p])
	}
	r.Unchecked("see the checks of Kafka", "without Kafka it is not known where the log begins and ends")
}

// judgeCoverage compares what is stored of a partition with the partition.
// committed was read before both.
func judgeCoverage(r Result, c clickhouse.Coverage, ok bool, p LogPartition, committed int64) {
	const again = "`qunfa replay --from topic` reads the topic anew"
	end := c.Last + 1
	switch {
	case !ok && committed > p.First:
		r.See(runbook+"qunfasinkrewound").Fail("with the next event the sink notices, and reads again; restart it if none comes", "nothing is stored, and the sink has committed offset %d: the database was made anew", committed)
		return
	case !ok:
		return // the sink has not come here yet: that is lag
	}
	judgeGaps(r, c)
	switch {
	case end > p.End:
		r.See(operations+"a-topic-that-was-created-anew").Fail("`qunfa topic adopt`", "the topic ends at offset %d, and it is stored up to %d: it was deleted and created anew, or lost its end", p.End, end)
	case end < committed:
		r.See(runbook+"qunfasinkrewound").Fail("with the next event the sink notices, and reads again; restart it if none comes", "stored up to offset %d, and committed up to %d: the database was restored from a backup", end, committed)
	case p.First > end:
		r.See(runbook+"qunfarecordstrimmed").Fail("nothing brings them back; let the topic keep records for longer (kafka.topic)", "records %d to %d expired before they were read", end, p.First-1)
	case c.First > p.First:
		r.Fail(again, "records %d to %d are in the topic, and were never stored", p.First, c.First-1)
	}
}

func judgeGaps(r Result, c clickhouse.Coverage) {
	if n := c.Missing(); n > 0 {
		r.Fail("`qunfa replay --from topic` reads the topic anew; then please report it: this must not happen", "of the offsets %d to %d, %d are not accounted for", c.First, c.Last, n)
	}
	if n := c.Kinds[events.FateTrimmed]; n > 0 {
		r.See(runbook+"qunfarecordstrimmed").Warn("nothing brings them back; let the topic keep records for longer (kafka.topic)", "%s expired in Kafka before the sink had read them, at some time", plural(int(n), "record"))
	}
}

func (d *Doctor) checkLost(ctx context.Context, r Result) {
	lost, err := d.cfg.Database.LostEvents(ctx)
	if err != nil {
		explainDatabase(r, err)
		return
	}
	for _, l := range lost {
		r.About(fmt.Sprintf("%s/%d", l.Topic, l.Partition)).Fail("`qunfa replay --from topic` brings them back, as far as the topic has them",
			"%s between offsets %d and %d noted as stored, and not there: a backup was restored whose tables are not of one instant", plural(int(l.Records), "event"), l.First, l.Last)
	}
	if r.None() {
		r.OK("all there")
	}
}

func (d *Doctor) checkDead(ctx context.Context, r Result) {
	if d.cfg.DeadLetters == nil {
		r.Unchecked("", "not asked")
		return
	}
	open, err := d.cfg.DeadLetters(ctx)
	if err != nil {
		r.Unchecked("see the checks of Kafka", "the dead letters cannot be read: %v", err)
		return
	}
	for _, reason := range slices.Sorted(maps.Keys(open)) {
		if n := open[reason]; n > 0 {
			r.About(reason).Warn("`qunfa dead list` shows them; once the reason is mended, `qunfa dead replay` sends them again", "%s open", plural(n, "dead letter"))
		}
	}
	if r.None() {
		r.OK("none open")
	}
}

// pendingWarn is when a message without an outcome raises an alert.
const pendingWarn = 6 * time.Hour

func (d *Doctor) checkPending(ctx context.Context, r Result) {
	var s MessagesState
	if err := s.Ask(ctx, d.cfg.Reader); err != nil {
		explainReading(r, err)
		return
	}
	n := s.Outcomes[string(events.OutcomePending)]
	if n == 0 || s.OldestPending == nil {
		r.OK("none pending")
		return
	}
	age := d.cfg.Clock().Sub(*s.OldestPending)
	text := fmt.Sprintf("%s pending, the oldest for %s", plural(int(n), "message"), days(age))
	switch giveUp := d.cfg.Settings.Reconcile.GiveUpAfter; {
	case age > giveUp+pendingWarn:
		r.Fail("see whether reconcile runs and what it says: a message should have ended after "+days(giveUp), "%s", text)
	case age > pendingWarn:
		r.Warn("see api.access of its account; `qunfa messages --outcome pending` shows them, with what WeChat answered", "%s", text)
	default:
		r.OK("%s", text)
	}
}
