-- What says nothing by itself of why little happened: the process stood still, nobody answered it, it had no Lease though no
-- other instance had it, or times deceive because the clock was stepped.
CREATE TABLE interruption (
    id            INTEGER PRIMARY KEY,
    -- 'standstill', 'api-server', 'lease', 'clock-forward' or 'clock-back'.
    kind          TEXT NOT NULL,
    from_unix_ms  INTEGER NOT NULL,
    until_unix_ms INTEGER NOT NULL,
    -- Those of a kind that are within a minute of each other share a row.
    times         INTEGER NOT NULL
) STRICT;
CREATE INDEX interruption_by_from ON interruption (from_unix_ms);
