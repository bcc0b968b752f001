package clickhouse

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// The operations, a closed set: values of the label "operation".
const (
	opInsertEvents   = "insert_events"
	opInsertRecords  = "insert_records"
	opInsertMessages = "insert_messages"
	opInsertAccounts = "insert_accounts"
	opHistory        = "history"
	opEnds           = "ends"
	opPending        = "pending"
	opDelivery       = "delivery"
	opCompleteness   = "completeness"
	opQuery          = "query"
	opSchema         = "schema"
	opMigrate        = "migrate"
	opRebuild        = "rebuild"
	opErase          = "erase"
	opLeaveOut       = "leave_out"
)

func operations() []string {
	return []string{opInsertEvents, opInsertRecords, opInsertMessages, opInsertAccounts, opHistory, opEnds,
		opPending, opDelivery, opCompleteness, opQuery, opSchema, opMigrate, opRebuild, opErase, opLeaveOut}
}

type metrics struct {
	seconds *prometheus.HistogramVec
	rows    *prometheus.CounterVec
	errors  *prometheus.CounterVec
}

// newMetrics makes the package's metrics, or takes those that another [DB] has
// already registered: services that share a process share them.
func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		seconds: register(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "qunfa_clickhouse_operation_seconds",
			Help:    "Time until ClickHouse answered, in seconds, by operation; failures are included.",
			Buckets: []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"operation"})),
		rows: register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qunfa_clickhouse_inserted_rows_total",
			Help: "Rows that ClickHouse acknowledged, by operation; repeated inserts count again.",
		}, []string{"operation"})),
		errors: register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "qunfa_clickhouse_errors_total",
			Help: "Failed operations, by operation and by what can be done about it.",
		}, []string{"operation", "class"})),
	}
	m.init()
	return m
}

func (m *metrics) init() {
	for _, op := range operations() {
		m.seconds.WithLabelValues(op)
		for _, class := range Classes() {
			m.errors.WithLabelValues(op, string(class))
		}
	}
	for _, op := range []string{opInsertEvents, opInsertRecords, opInsertMessages, opInsertAccounts} {
		m.rows.WithLabelValues(op)
	}
}

func register[C prometheus.Collector](r prometheus.Registerer, c C) C {
	if r == nil {
		return c
	}
	err := r.Register(c)
	if are, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, ok := are.ExistingCollector.(C); ok {
			return old
		}
	}
	if err != nil {
		panic(err) // another collector has the name: a mistake in the program
	}
	return c
}

// done records the end of an operation and returns its error, wrapped.
func (db *DB) done(op string, start time.Time, err error) error {
	db.metrics.seconds.WithLabelValues(op).Observe(db.cfg.Clock().Sub(start).Seconds())
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); !ok {
		err = wrap(op, err)
	}
	db.metrics.errors.WithLabelValues(op, string(ClassOf(err))).Inc()
	return err
}
