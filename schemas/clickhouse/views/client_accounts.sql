-- Which accounts a limited user sees. The row policies of such users read it.
CREATE OR REPLACE VIEW client_accounts
(
    client String COMMENT 'The database user, as clickhouse.clients names it.',
    appid  String COMMENT 'An account that it sees.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT client, appid
FROM client_rows FINAL
WHERE NOT removed
COMMENT 'The accounts of each client: a database user who sees these accounts and no others. A client sees its own rows here, too.';
