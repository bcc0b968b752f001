-- What was decided once for this database.
CREATE OR REPLACE VIEW settings
(
    name  LowCardinality(String) COMMENT 'time_zone: whose calendar days messages fall on, and in which the views show times.',
    value String                 COMMENT 'Its value.'
)
DEFINER = CURRENT_USER SQL SECURITY DEFINER AS
SELECT name, argMin(value, (set_at, value)) AS value
FROM setting_rows
WHERE name NOT IN ('expired_before', 'raw_expired_before')
GROUP BY name
COMMENT 'What was decided once for this database.';
