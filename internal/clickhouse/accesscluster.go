package clickhouse

// clusterGrants are what a role needs beyond [Grants] where each table is two. A
// server asks itself for the rows of its own shard, and does so as the user who
// asks; the others it asks as the user that remote_servers names.
func clusterGrants(role Role, database string) []string {
	switch role {
	case RoleOwner:
		return []string{
			"GRANT CLUSTER, REMOTE, CREATE TEMPORARY TABLE ON *.*",
			"GRANT TABLE ENGINE ON Distributed",
			"GRANT TABLE ENGINE ON ReplicatedMergeTree",
			"GRANT TABLE ENGINE ON ReplicatedReplacingMergeTree",
			"GRANT SELECT ON system.clusters",
			"GRANT SELECT ON system.macros",
			"GRANT SELECT ON system.tables",
		}
	case RoleWriter:
		grants := []string{"GRANT SELECT ON system.clusters"}
		for _, table := range []string{tableEvents, tableRecords, tableMessages, tableAccounts, tableRebuilds} {
			grants = append(grants, "GRANT SELECT, INSERT ON "+quoteName(database)+"."+table+localSuffix)
		}
		for _, table := range []string{tableSettings, tableErasures, tableMigrations} {
			grants = append(grants, "GRANT SELECT ON "+quoteName(database)+"."+table+localSuffix)
		}
		return grants
	}
	return nil // who reads views reads with the rights of their owner
}
