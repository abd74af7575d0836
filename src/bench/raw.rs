//! The floor of a store: the very rows that a server wrote, inserted by hand, so many jobs to a transaction.
//!
//! The rows and the schema are read from the database that a server left behind, so that they stay the same rows however the store changes. A table
//! counts if each job added to it.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OpenFlags, params_from_iter, types::Value};

use super::{BenchError, load::Sample, now};

/// Pages of the write-ahead log from which it is emptied, as the server does.
const CHECKPOINT_PAGES: u32 = 4_096;

/// The rows of many jobs, in the order in which they were stored.
pub(super) struct JobRows {
    jobs: usize,
    page_bytes: u32,
    schema: Vec<String>,
    tables: Vec<Table>,
}

struct Table {
    insert: String,
    rows: Vec<Vec<Value>>,
    rows_per_job: usize,
}

impl JobRows {
    /// Reads the rows of `jobs` jobs from a server's data directory. Blocks.
    pub(super) fn read(data_dir: &Path, jobs: usize) -> Result<Self, BenchError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
        let connection = Connection::open_with_flags(data_dir.join("longhaul.db"), flags)?;
        let strings = |sql: &str| -> rusqlite::Result<Vec<String>> {
            let mut statement = connection.prepare(sql)?;
            statement.query_map((), |row| row.get(0))?.collect()
        };
        // Tables first: an index needs its table.
        let schema = strings(
            "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY type = 'index'",
        )?;
        let names = strings(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        )?;
        let mut tables = Vec::new();
        for name in names {
            tables.extend(read_table(&connection, &name, jobs)?);
        }
        let page_bytes = connection.query_row("PRAGMA page_size", (), |row| row.get(0))?;
        Ok(Self {
            jobs,
            page_bytes,
            schema,
            tables,
        })
    }

    /// Rows of each job, in all tables.
    pub(super) fn rows_per_job(&self) -> usize {
        self.tables.iter().map(|table| table.rows_per_job).sum()
    }

    /// Inserts them into a new database, a transaction for each `batch` jobs, each on stable storage before the next; ends after all of them, or after
    /// `time`. Blocks.
    pub(super) fn insert(
        &self,
        dir: &Path,
        batch: usize,
        time: Duration,
    ) -> Result<Sample, BenchError> {
        let mut connection = Connection::open(dir.join("raw.db"))?;
        connection.execute_batch(&format!(
            "PRAGMA page_size = {}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; PRAGMA cache_size = -65536;",
            self.page_bytes
        ))?;
        for sql in &self.schema {
            connection.execute_batch(sql)?;
        }
        connection.set_prepared_statement_cache_capacity(self.tables.len());
        let mut sample = Sample::new();
        let start = now();
        for first in (0..self.jobs).step_by(batch) {
            let last = self.jobs.min(first + batch);
            let began = now();
            let transaction = connection.transaction()?;
            for table in &self.tables {
                let mut insert = transaction.prepare_cached(&table.insert)?;
                let (from, to) = (first * table.rows_per_job, last * table.rows_per_job);
                for row in &table.rows[from..to] {
                    insert.execute(params_from_iter(row))?;
                }
            }
            transaction.commit()?;
            sample.add((last - first) as u64, now() - began);
            if start.elapsed() >= time {
                break;
            }
        }
        sample.elapsed = start.elapsed();
        Ok(sample)
    }
}

/// The rows that jobs added to a table; `None` if they added none.
fn read_table(
    connection: &Connection,
    name: &str,
    jobs: usize,
) -> Result<Option<Table>, BenchError> {
    let mut columns: Vec<String> = Vec::new();
    connection.pragma(None, "table_info", name, |row| {
        columns.push(row.get("name")?);
        Ok(())
    })?;
    // Ids of jobs sort by time.
    let order = ["job", "id"]
        .into_iter()
        .find(|column| columns.iter().any(|c| c == column));
    let Some(order) = order else {
        return Ok(None);
    };
    let mut select = connection.prepare(&format!("SELECT * FROM {name} ORDER BY {order}"))?;
    let width = columns.len();
    let rows = select
        .query_map((), |row| (0..width).map(|at| row.get(at)).collect())?
        .collect::<rusqlite::Result<Vec<Vec<Value>>>>()?;
    if rows.len() < jobs {
        return Ok(None);
    }
    let holes: Vec<String> = (1..=width).map(|n| format!("?{n}")).collect();
    Ok(Some(Table {
        insert: format!("INSERT INTO {name} VALUES ({})", holes.join(", ")),
        rows_per_job: rows.len() / jobs,
        rows,
    }))
}
