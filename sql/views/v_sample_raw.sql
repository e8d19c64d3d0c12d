-- Every stored sample by series number, whatever the storage: sql/migrations/0001_init.sql explains
-- the arithmetic. Unordered, since ordering would decode everything first. The joins are CROSS so
-- that blocks (few) come before chunks (found by block and series).
CREATE VIEW v_sample_raw AS
SELECT h.series_id, h.at_unix_ms, h.value
FROM sample_head h
UNION ALL
SELECT c.series_id,
       c.base_unix_ms + n.key * c.step_ms + iif(c.stride = 0, n.value, n.value / c.stride),
       c.value_list ->> iif(c.stride = 0, n.key, n.value % c.stride)
FROM sample_block b
CROSS JOIN sample_chunk c ON c.block_id = b.id
CROSS JOIN json_each(c.samples) n;
