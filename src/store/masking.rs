//! Masks the user texts that an earlier version stored unmasked, passwords included: once, in the background.
//!
//! Newer rows are masked before they are stored. The table `unmasked` holds the progress for each table; it is empty in
//! a file that this version created.

use rusqlite::params;

use super::prepared::Prepared;
use super::sql::Sql;
use crate::wire::mask;

/// Rows in a slice, each read and some written: at 50 µs each, this takes 10 ms.
const ROWS: i64 = 200;

/// Bytes of definitions after which a slice ends, since reading them takes about 50 ns a byte.
const BYTES: usize = 256 << 10;

/// Masks a slice; returns false if nothing is left to mask.
pub(crate) fn slice(prepared: &mut Prepared<'_>) -> Result<bool, rusqlite::Error> {
    let mut rows = prepared.get(Sql::MaskNext)?.query([])?;
    let next: Option<(String, i64, i64)> = rows.next()?.map(TryInto::try_into).transpose()?;
    drop(rows);
    let Some((name, after, last)) = next else { return Ok(false) };
    let reached = match name.as_str() {
        "definition" => definitions(prepared, after, last)?,
        "condition_change" => texts(prepared, (Sql::MaskReadConditions, Sql::MaskCondition), after, last)?,
        "error_period" => texts(prepared, (Sql::MaskReadErrors, Sql::MaskError), after, last)?,
        "decision" => texts(prepared, (Sql::MaskReadDecisions, Sql::MaskDecision), after, last)?,
        "action" => texts(prepared, (Sql::MaskReadActions, Sql::MaskAction), after, last)?,
        _ => None,
    };
    match reached {
        Some(id) => prepared.execute(Sql::MaskAdvance, params![name, id])?,
        None => prepared.execute(Sql::MaskDone, [&name])?,
    };
    Ok(true)
}

/// Returns the last id that was masked; `None` at the end.
fn definitions(prepared: &mut Prepared<'_>, after: i64, last: i64) -> Result<Option<i64>, rusqlite::Error> {
    let mut rows = prepared.get(Sql::MaskReadDefinitions)?.query([after, last, ROWS])?;
    let (mut changed, mut reached, mut bytes) = (Vec::new(), None, 0);
    while bytes < BYTES
        && let Some(row) = rows.next()?
    {
        let (id, spec, invalid): (i64, String, Option<String>) = row.try_into()?;
        reached = Some(id);
        bytes += spec.len();
        let masked_spec = mask::recorded_text(&spec);
        let masked_invalid = invalid.as_deref().map(mask::text);
        if masked_spec.is_some() || masked_invalid.as_deref() != invalid.as_deref() {
            let invalid = masked_invalid.map(std::borrow::Cow::into_owned);
            changed.push((id, masked_spec.unwrap_or(spec), invalid));
        }
    }
    drop(rows);
    for (id, spec, invalid) in changed {
        prepared.execute(Sql::MaskDefinition, params![id, spec, invalid])?;
    }
    Ok(reached)
}

fn texts(
    prepared: &mut Prepared<'_>,
    (read, write): (Sql, Sql),
    after: i64,
    last: i64,
) -> Result<Option<i64>, rusqlite::Error> {
    let mut rows = prepared.get(read)?.query([after, last, ROWS])?;
    let (mut changed, mut reached) = (Vec::new(), None);
    while let Some(row) = rows.next()? {
        let (id, text): (i64, Option<String>) = row.try_into()?;
        reached = Some(id);
        if let Some(text) = text
            && let std::borrow::Cow::Owned(masked) = mask::text(&text)
        {
            changed.push((id, masked));
        }
    }
    drop(rows);
    for (id, text) in changed {
        prepared.execute(write, params![id, text])?;
    }
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::schema;
    use rusqlite::Connection;

    /// Has every kind of text in a file that an earlier version wrote.
    #[test]
    fn rows_of_an_earlier_version_are_masked() {
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::migrate(&mut connection, 1).expect("the version before");
        connection
            .execute_batch(
                r#"INSERT INTO scaled_object VALUES (1, 'keda.sh', 'a', 'b', 'u', 1, NULL);
                 INSERT INTO series VALUES (1, 1, 0, 'prometheus', NULL, 'm', 's', 'q', 1, 0, 1, NULL);
                 CREATE TEMP TABLE n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 700) SELECT i FROM n;
                 INSERT INTO definition SELECT i, 1, i, i, NULL,
                     '{"triggers":[{"metadata":{"apiKey":"s3cret","url":"http://u:s3cret@h/' || i || '"},"type":"metrics-api"}]}',
                     'url: "http://u:s3cret@h:port" has no valid port' FROM temp.n;
                 INSERT INTO condition_change SELECT i, 1, i, 'Ready', 'False', 'r', '"http://u:s3cre"… is broken' FROM temp.n;
                 INSERT INTO error_period SELECT i, 1, 'connect', 'http://u:s3cret@h is down', i, i, i, 1 FROM temp.n;
                 INSERT INTO decision (id, object_id, at_unix_ms, reason, detail, from_replicas, to_replicas, triggers_json, min_replicas, force_activation)
                     SELECT i, 1, i, 'Inactive', '', 0, 0, '[{"error":"\"http://u:s3cret@h\""}]', 0, 0 FROM temp.n;
                 INSERT INTO action SELECT i, 1, i, i, 0, 1, 'http://u:s3cret@h' FROM temp.n;"#,
            )
            .expect("rows");
        schema::migrate(&mut connection, schema::version()).expect("migrate");
        let dump = |connection: &Connection| -> String {
            let all = "SELECT group_concat(t, '|') FROM (SELECT spec_json || invalid AS t FROM definition UNION ALL SELECT message FROM condition_change \
                UNION ALL SELECT message FROM error_period UNION ALL SELECT triggers_json FROM decision UNION ALL SELECT error FROM action)";
            connection.query_row(all, [], |row| row.get(0)).expect("dump")
        };
        assert_eq!(dump(&connection).matches("s3cre").count(), 7 * 700);
        let mut prepared = Prepared::new(&connection);
        let mut slices = 0;
        loop {
            let before = connection.total_changes();
            if !slice(&mut prepared).expect("slice") {
                break;
            }
            assert!(connection.total_changes() - before <= ROWS as u64 + 1);
            slices += 1;
        }
        assert!(slices >= 5 * 4, "{slices}");
        let text = dump(&connection);
        assert!(!text.contains("s3cre"), "{}", &text[..2_000]);
        assert!(
            text.contains(r#"[{"error":"\"http://***@h\""}]"#)
                && text.contains(r#""apiKey":"***","url":"http://***@h/700""#)
        );
        let left: i64 = connection.query_row("SELECT count(*) FROM unmasked", [], |row| row.get(0)).expect("count");
        assert_eq!(left, 0);
    }

    #[test]
    fn a_new_file_has_nothing_to_mask() {
        let mut connection = Connection::open_in_memory().expect("memory");
        schema::migrate(&mut connection, schema::version()).expect("migrate");
        assert!(!slice(&mut Prepared::new(&connection)).expect("slice"));
    }
}
