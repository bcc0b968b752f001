package clickhouse

import (
	"maps"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// insertSettings go with every insert. The server must store what it is given,
// also when it looks like an insert that it has seen (a retry must heal a part
// that was lost after its token was recorded), and must answer only when it has.
// A batch of imported history may touch more months than the limit allows for.
func insertSettings() clickhouse.Settings {
	return clickhouse.Settings{
		"insert_deduplicate":              0,
		"async_insert":                    0,
		"max_partitions_per_insert_block": 0,
		// A revision of an event states its ver, which is computed otherwise.
		"insert_allow_materialized_columns": 1,
	}
}

// quorumTimeout is how long an insert waits for the replicas. It lies below the
// time after which the client stops waiting for the insert.
const quorumTimeout = 30 * time.Second

// sessionSettings go with every statement; without a cluster there are none.
func (c Config) sessionSettings() clickhouse.Settings {
	if !c.Cluster.on() {
		return nil
	}
	s := clickhouse.Settings{
		// The answer to an insert must mean that the shards have the rows, and not
		// that one server keeps them to send them later.
		"distributed_foreground_insert": 1,
		// A shard that is away must be an error. Answers without it look whole.
		"skip_unavailable_shards": 0,
	}
	if c.Cluster.Replicated {
		maps.Copy(s, clickhouse.Settings{
			// A message's row is folded of all events that anybody was told are
			// stored, whichever replica is asked. So most replicas must have a row
			// before the answer, inserts into one table come one after the other, and
			// a replica that lacks any of them refuses to answer.
			"insert_quorum":                 "auto",
			"insert_quorum_parallel":        0,
			"insert_quorum_timeout":         quorumTimeout.Milliseconds(),
			"select_sequential_consistency": 1,
			// A statement ON CLUSTER is done when every server has done it.
			"distributed_ddl_task_timeout": int64(ddlTimeout / time.Second),
			"distributed_ddl_output_mode":  "throw",
		})
	}
	return s
}

// with returns the settings of a pool of connections and further ones.
func (c Config) with(more clickhouse.Settings) clickhouse.Settings {
	s := clickhouse.Settings{}
	maps.Copy(s, c.sessionSettings())
	maps.Copy(s, more)
	return s
}
