package faults

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/ClickHouse/ch-go/proto"

	"qunfa/internal/embedded"
	"qunfa/internal/embedded/embeddedtest"
)

// engine is a ClickHouse of the test's own, whose users can be changed by starting it anew.
type engine struct {
	t      *testing.T
	dir    string
	engine *embedded.Engine
}

func newEngine(t *testing.T) *engine {
	t.Helper()
	e := &engine{t: t, dir: filepath.Join(t.TempDir(), "clickhouse")}
	e.start(embedded.EngineConfig{AllDatabases: true})
	t.Cleanup(func() { e.stop() })
	return e
}

func (e *engine) start(c embedded.EngineConfig) {
	e.t.Helper()
	exe, err := embeddedtest.LocalEngine()
	if err != nil {
		e.t.Fatal(err)
	}
	c.Dir, c.LocalEngine = e.dir, exe
	c.Logger = slog.New(slog.NewTextHandler(e.t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	if e.engine, err = embedded.StartEngine(e.t.Context(), c); err != nil {
		e.t.Fatal(err)
	}
}

func (e *engine) stop() {
	if err := e.engine.Close(); err != nil {
		e.t.Errorf("stop ClickHouse: %v", err)
	}
}

func (e *engine) server() *embeddedtest.Server {
	return &embeddedtest.Server{Addr: e.engine.Addr(), Username: e.engine.Username(), Password: e.engine.Password()}
}

// again stops ClickHouse and starts it with other users behind the proxy.
func (e *engine) again(f *fault, c embedded.EngineConfig) {
	e.t.Helper()
	f.server.Break() // idle connections would hold up the stop
	e.stop()
	e.start(c)
	f.server.LeadTo(e.engine.Addr())
}

// TestWrongPassword changes the password of the services' user on the server.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	f := newFault(t, parts{server: e.server(), own: true})
	f.begin()
	const file = "credentials.json"
	right, err := os.ReadFile(filepath.Join(e.dir, file))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(e.dir, file)); err != nil {
		t.Fatal(err)
	}
	e.again(f, embedded.EngineConfig{AllDatabases: true})
	f.takenMeanwhile(5)
	f.sees()

	if err := os.WriteFile(filepath.Join(e.dir, file), right, 0o600); err != nil {
		t.Fatal(err)
	}
	e.again(f, embedded.EngineConfig{AllDatabases: true})
	f.repaired(e.engine.Addr())
	f.saidOnce("leave_out: code: 516")
}

// takenMeanwhile checks that callbacks are taken although ClickHouse is in trouble.
func (f *fault) takenMeanwhile(n int) {
	f.t.Helper()
	if taken := f.tell(n); taken != n {
		f.t.Errorf("%d of %d callbacks were taken: ingest does not need ClickHouse", taken, n)
	}
}

// repaired waits until everything works again and nothing is missing. The
// database may have another address than before.
func (f *fault) repaired(addr ...string) {
	f.t.Helper()
	if len(addr) > 0 {
		f.reopen(addr[0])
	}
	f.settle()
	f.awaitReady()
	if n := f.log.count("writing again"); n != 1 {
		f.t.Errorf("the sink said %d times that it writes again, want once", n)
	}
	for _, name := range []string{"qunfa_sink_paused = 0"} {
		if why := unmet(f.page("sink", "/metrics"), name); why != "" {
			f.t.Errorf("after the repair: %s", why)
		}
	}
}

// TestReadOnlyUser takes the user's grants away.
func TestReadOnlyUser(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	f := newFault(t, parts{server: e.server(), own: true})
	f.begin()
	e.again(f, embedded.EngineConfig{Databases: []string{"elsewhere"}})
	f.takenMeanwhile(5)
	f.sees()

	e.again(f, embedded.EngineConfig{AllDatabases: true})
	f.repaired(e.engine.Addr())
	f.saidOnce("leave_out: code: 497")
}

// TestMissingTable takes a table away, and puts it back.
func TestMissingTable(t *testing.T) {
	t.Parallel()
	f := newFault(t, parts{})
	f.begin()
	f.query("RENAME TABLE " + f.cfg.ClickHouse.Database + ".event_rows TO " + f.cfg.ClickHouse.Database + ".elsewhere")
	f.takenMeanwhile(5)
	f.sees()
	f.query("RENAME TABLE " + f.cfg.ClickHouse.Database + ".elsewhere TO " + f.cfg.ClickHouse.Database + ".event_rows")
	f.repaired()
	f.saidOnce("cannot write")
}

// TestDatabaseReplaced drops the database and makes it anew while nothing comes,
// so that no attempt to write ever fails.
func TestDatabaseReplaced(t *testing.T) {
	t.Parallel()
	f := newFault(t, parts{})
	f.begin()
	f.tell(10)
	f.settle()
	f.query("DROP DATABASE " + f.cfg.ClickHouse.Database + " SYNC")
	f.migrate()
	f.takenMeanwhile(1)
	f.sees()
	f.settle()
	f.awaitReady()
}

// TestMissingColumn drops a column, and adds it again.
func TestMissingColumn(t *testing.T) {
	t.Parallel()
	f := newFault(t, parts{})
	f.begin()
	f.query("ALTER TABLE " + f.cfg.ClickHouse.Database + ".event_rows DROP COLUMN source")
	f.takenMeanwhile(5)
	f.sees()
	f.query("ALTER TABLE " + f.cfg.ClickHouse.Database + ".event_rows ADD COLUMN source LowCardinality(String) AFTER type")
	f.repaired()
	f.saidOnce("cannot write")
}

// TestDiskFull makes the server find too little room for inserts. It refuses
// them with the code that a full disk gives, from the same place in its code.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	f := newFault(t, parts{})
	f.begin()
	set := func(what string) {
		for _, table := range []string{"event_rows", "record_rows", "message_rows"} {
			f.query(fmt.Sprintf("ALTER TABLE %s.%s %s", f.cfg.ClickHouse.Database, table, what))
		}
	}
	set("MODIFY SETTING min_free_disk_bytes_to_perform_insert = 1152921504606846976")
	f.takenMeanwhile(5)
	f.sees()
	set("RESET SETTING min_free_disk_bytes_to_perform_insert")
	f.repaired()
}

// TestEngineTooOld starts the sink with a server of version 24, which is then
// replaced by one that is new enough.
func TestEngineTooOld(t *testing.T) {
	t.Parallel()
	server := embeddedtest.ClickHouse(t)
	f := newFault(t, parts{server: server})
	f.server.LeadTo(oldClickHouse(t))
	f.start("ingest", "sink")
	f.takenMeanwhile(3)
	f.sees()
	f.server.LeadTo(server.Addr)
	f.settle()
	f.awaitReady()
	f.saidOnce("version 25 or newer is needed")
}

// oldClickHouse speaks as much of the native protocol as is needed to say that
// it is of version 24. It returns its address.
func oldClickHouse(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return // closed
			}
			wg.Go(func() {
				defer c.Close()
				answerAsOld(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// answerAsOld answers every packet that is not the first as if it asked for the
// version. An old revision of the protocol keeps the answers short.
func answerAsOld(c net.Conn) {
	const revision = 54032
	in := make([]byte, 64<<10)
	var out proto.Buffer
	for asked := 0; ; asked++ {
		n, err := c.Read(in)
		if err != nil {
			return
		}
		out.Reset()
		switch {
		case asked == 0:
			hello := proto.ServerHello{Name: "ClickHouse", Major: 24, Minor: 8, Revision: revision}
			hello.EncodeAware(&out, revision)
		case in[0] == byte(proto.ClientCodePing):
			proto.ServerCodePong.Encode(&out)
		case n > 0:
			if err := encodeVersion(&out, revision); err != nil {
				return
			}
		}
		if _, err := c.Write(out.Buf); err != nil {
			return
		}
	}
}

func encodeVersion(out *proto.Buffer, revision int) error {
	column := new(proto.ColStr)
	column.Append("24.8.14.39")
	var block proto.Buffer
	err := proto.Block{Columns: 1, Rows: 1}.EncodeBlock(&block, revision, []proto.InputColumn{{Name: "version()", Data: column}})
	if err != nil {
		return err
	}
	w := compress.NewWriter(compress.LevelZero, compress.LZ4)
	if err := w.Compress(block.Buf); err != nil {
		return err
	}
	proto.ServerCodeData.Encode(out)
	out.PutString("") // no name of a temporary table
	out.Buf = append(out.Buf, w.Data...)
	proto.ServerCodeEndOfStream.Encode(out)
	return nil
}
