//! The floor: rows that the store wrote, put into the same tables of another database by bare prepared statements.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, params_from_iter, types::Value};

/// Rows of one table, in the order in which they were written.
struct Table {
    insert: String,
    rows: Vec<Vec<Value>>,
}

/// Every row of a store.
pub struct Rows(Vec<Table>);

const TABLES: [&str; 4] = ["jobs", "tasks", "events", "request_ids"];

impl Rows {
    /// Reads what a closed store holds.
    pub fn of(dir: &Path) -> rusqlite::Result<Self> {
        let database = Connection::open(dir.join("longhaul.db"))?;
        let table = |name: &&str| {
            let mut statement = database.prepare(&format!("SELECT * FROM {name} ORDER BY 1, 2"))?;
            let columns = statement.column_count();
            let values = vec!["?"; columns].join(", ");
            let rows = statement.query_map((), |row| {
                (0..columns).map(|column| row.get(column)).collect()
            })?;
            Ok(Table {
                insert: format!("INSERT INTO {name} VALUES ({values})"),
                rows: rows.collect::<rusqlite::Result<_>>()?,
            })
        };
        TABLES.iter().map(table).collect::<Result<_, _>>().map(Self)
    }

    /// Puts all of them into an empty store, as many jobs as that in each transaction.
    pub fn insert(&self, dir: &Path, jobs_per_commit: usize) -> rusqlite::Result<()> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Connection::open_with_flags(dir.join("longhaul.db"), flags)?;
        database.execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA cache_size = -65536; PRAGMA wal_autocheckpoint = 0;",
        )?;
        let commits = self.0[0].rows.len().div_ceil(jobs_per_commit);
        let mut tables = Vec::new();
        for table in self.0.iter().filter(|table| !table.rows.is_empty()) {
            let chunks = table.rows.chunks(table.rows.len().div_ceil(commits));
            tables.push((database.prepare(&table.insert)?, chunks));
        }
        let (mut begin, mut commit) = (database.prepare("BEGIN")?, database.prepare("COMMIT")?);
        for _ in 0..commits {
            begin.execute(())?;
            for (insert, chunks) in &mut tables {
                for row in chunks.next().into_iter().flatten() {
                    insert.execute(params_from_iter(row))?;
                }
            }
            commit.execute(())?;
        }
        Ok(())
    }
}
