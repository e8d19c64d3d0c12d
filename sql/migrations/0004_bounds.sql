-- Error periods are deleted by their end, as everything that ended.
CREATE INDEX error_period_by_until ON error_period (until_unix_ms) WHERE until_unix_ms IS NOT NULL;
-- The ended triggers of an object are counted at each of its edits.
CREATE INDEX series_ended ON series (object_id, until_unix_ms) WHERE until_unix_ms IS NOT NULL;
