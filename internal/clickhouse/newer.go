package clickhouse

import (
	"context"
	"fmt"
	"strconv"
)

// servicesSince is the oldest schema whose services go on working on the newest
// one. A migration only adds, so it stays as it is, until one cannot: then this
// becomes that migration's number, and [DB.CheckSchema] of older services waits.
const servicesSince = 6

// settingServices names, with the number of a schema behind it, the value of
// servicesSince of whoever migrated to it: what an older service cannot know.
const settingServices = "services_since schema "

// storeServices writes down which services go on working from now on.
func (db *DB) storeServices(ctx context.Context, progress func(Step)) error {
	latest, err := latestMigration()
	if err != nil {
		return err
	}
	name := settingServices + strconv.FormatInt(latest, 10)
	have, err := db.setting(ctx, name)
	if err != nil || have != "" {
		return err
	}
	value := strconv.Itoa(servicesSince)
	if err := db.send(ctx, tableSettings, []column{{"name", []string{name}}, {"value", []string{value}}}); err != nil {
		return wrap("store which services go on working", err)
	}
	progress(Step{StepSetting, name + ": " + value})
	return nil
}

// checkFits reports why services of schema want cannot work on schema have.
func (db *DB) checkFits(ctx context.Context, have, want int64) error {
	if have > want {
		value, err := db.setting(ctx, settingServices+strconv.FormatInt(have, 10))
		if err != nil {
			return fmt.Errorf("look for what schema %d needs: %w", have, err)
		}
		if since, err := strconv.ParseInt(value, 10, 64); err == nil && want >= since {
			return nil
		}
	}
	return compareVersions(db.cfg.Database, have, want)
}
