package clickhouse

import (
	"context"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Account is what people call an account.
type Account struct {
	AppID      string
	OriginalID string // gh_…, by which the callback's body names the account
	Name       string
}

// UpsertAccounts stores the accounts of the configuration. Only what has
// changed is written. An account that is no longer configured keeps its name.
func (db *DB) UpsertAccounts(ctx context.Context, accounts []Account) error {
	start := db.cfg.Clock()
	have := map[string]Account{}
	const sql = "SELECT appid, original_id, name FROM " + tableAccounts + " FINAL"
	err := db.each(ctx, sql, nil, func(rows driver.Rows) error {
		var a Account
		err := rows.Scan(&a.AppID, &a.OriginalID, &a.Name)
		have[a.AppID] = a
		return err
	})
	if err != nil {
		return db.done(opInsertAccounts, start, err)
	}
	var changed []Account
	for _, a := range accounts {
		if old, ok := have[a.AppID]; !ok || old != a {
			changed = append(changed, a)
		}
	}
	return db.insert(ctx, opInsertAccounts, tableAccounts, len(changed), []column{
		col("appid", changed, func(a *Account) string { return a.AppID }),
		col("original_id", changed, func(a *Account) string { return a.OriginalID }),
		col("name", changed, func(a *Account) string { return a.Name }),
	})
}
