package clickhouse_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"qunfa/internal/clickhouse"
)

// A service that is restarted between a migration and its own upgrade goes on if
// whoever migrated knows that it can.
func TestNewerSchemaThatFits(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	query(t, db, "INSERT INTO schema_migrations (version_id, is_applied) VALUES (99, 1)")
	query(t, db, fmt.Sprintf("INSERT INTO setting_rows (name, value) VALUES ('services_since schema 99', '%d')", migrations(t)))
	if err := db.CheckSchema(t.Context()); err != nil {
		t.Errorf("CheckSchema: %v, want nil: version 99 says that this one goes on working", err)
	}
	// Its views, however, are newer than those that this version would make.
	if err := db.Migrate(t.Context(), nil); !errors.Is(err, clickhouse.ErrSchema) {
		t.Errorf("Migrate: %v, want a refusal", err)
	}
}

func TestNewerSchemaThatDoesNotFit(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	query(t, db, "INSERT INTO schema_migrations (version_id, is_applied) VALUES (99, 1)")
	query(t, db, "INSERT INTO setting_rows (name, value) VALUES ('services_since schema 99', '99')")
	if err := db.CheckSchema(t.Context()); !errors.Is(err, clickhouse.ErrSchema) || !strings.Contains(err.Error(), "run a newer qunfa") {
		t.Errorf("CheckSchema: %v, want one that says to run a newer program", err)
	}
}
