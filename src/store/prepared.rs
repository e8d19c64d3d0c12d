//! Prepares each statement once per connection, on first use.

use rusqlite::{Connection, Params, Statement};

use super::sql::Sql;

pub(crate) struct Prepared<'c> {
    pub(crate) connection: &'c Connection,
    slots: Vec<Option<Statement<'c>>>,
}

impl<'c> Prepared<'c> {
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Self { connection, slots: Sql::ALL.iter().map(|_| None).collect() }
    }

    pub(crate) fn get(&mut self, sql: Sql) -> Result<&mut Statement<'c>, rusqlite::Error> {
        let slot = &mut self.slots[sql as usize];
        if slot.is_none() {
            *slot = Some(self.connection.prepare(sql.text())?);
        }
        Ok(slot.as_mut().expect("filled above"))
    }

    pub(crate) fn execute(&mut self, sql: Sql, params: impl Params) -> Result<usize, rusqlite::Error> {
        self.get(sql)?.execute(params)
    }

    pub(crate) fn insert(&mut self, sql: Sql, params: impl Params) -> Result<i64, rusqlite::Error> {
        self.get(sql)?.execute(params)?;
        Ok(self.connection.last_insert_rowid())
    }
}
