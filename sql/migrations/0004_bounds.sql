-- Error periods are deleted by their end, as everything that ended.
CREATE INDEX error_period_by_until ON error_period (until_unix_ms) WHERE until_unix_ms IS NOT NULL;
-- The ended triggers of an object are counted at each of its edits.
CREATE INDEX series_ended ON series (object_id, until_unix_ms) WHERE until_unix_ms IS NOT NULL;
-- A series of a number that the id of a chunk has no room for had no samples, and the samples of another were read as its
-- own. Its trigger gets a number that there is room for.
UPDATE error_period SET until_unix_ms = last_at_unix_ms WHERE until_unix_ms IS NULL AND series_id > 16777215;
UPDATE series SET until_unix_ms = from_unix_ms WHERE until_unix_ms IS NULL AND id > 16777215;
