//! Opening a data directory: one server at a time, nobody else's database, nothing half there, nothing newer than this program. Nothing here takes
//! longer with more jobs.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

/// The database in the data directory.
pub(super) const DATABASE_FILE: &str = "longhaul.db";
/// Held for as long as a server uses the directory; holds its process id.
const LOCK_FILE: &str = "lock";
/// In the header of every database of ours: "LngH".
const APPLICATION_ID: u32 = 0x4c6e_6748;
/// Older libraries can lose a commit when the write-ahead log starts anew.
const OLDEST_SQLITE: i32 = 3_051_003;
/// Bytes of a page: rows of a job are a few hundred bytes, and a list reads many that stand together.
const PAGE_BYTES: u32 = 4_096;
/// Statements that the writer keeps prepared: all that there are.
pub(super) const STATEMENT_CACHE: usize = 64;

mod embedded {
    refinery::embed_migrations!("src/store/sqlite/migrations");
}

/// Why a data directory can not be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another server uses it.
    #[error(
        "the data directory {} is in use by {}; stop that server first, or choose another directory with --data-dir",
        dir.display(), pid.map_or("another server".to_owned(), |pid| format!("the server with process id {pid}"))
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The process that uses it, if it said so.
        pid: Option<u32>,
    },
    /// It can not be made, read or written.
    #[error("the data directory {} can not be used: {error}; check that it exists or can be made, and that this user may write to it", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The file is not a database, or not one of ours.
    #[error("{} is not a Longhaul database ({what}); move it away, or choose another directory with --data-dir", file.display())]
    Foreign {
        /// The file.
        file: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The file is damaged.
    #[error("the database {} is damaged: {what}; restore it from a backup, or move it away to begin anew", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// How.
        what: String,
    },
    /// A newer version has been here.
    #[error("the database {} was made by a newer version of longhaul (schema {found}; this one knows {known}); use that version", file.display())]
    TooNew {
        /// The file.
        file: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that this program knows.
        known: i64,
    },
    /// The SQLite library has a known fault.
    #[error(
        "SQLite {0} can lose commits; build longhaul with the bundled library, or with 3.51.3 or newer"
    )]
    OldLibrary(&'static str),
    /// There is no room.
    #[error("the disk of {} is full; make room, then start again", dir.display())]
    Full {
        /// The directory.
        dir: PathBuf,
    },
    /// Anything else.
    #[error("the database {} can not be opened: {error}", file.display())]
    Failed {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The right to use a data directory, for as long as it is kept.
#[derive(Debug)]
pub(super) struct DirLock {
    _file: File,
}

/// Makes the directory if need be, and locks it.
pub(super) fn lock(dir: &Path) -> Result<DirLock, OpenError> {
    let unusable = |error| OpenError::Directory {
        dir: dir.to_owned(),
        error,
    };
    make_directory(dir).map_err(unusable)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(dir.join(LOCK_FILE))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file
                .read_to_string(&mut text)
                .ok()
                .and_then(|_| text.trim().parse().ok());
            return Err(OpenError::Locked {
                dir: dir.to_owned(),
                pid,
            });
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    // On a full disk the id can not be written; the lock holds all the same.
    let noted = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| write!(file, "{}", std::process::id()));
    if let Err(error) = noted {
        tracing::warn!(%error, "the process id could not be written into the lock file");
    }
    Ok(DirLock { _file: file })
}

/// Makes the directory and those above it, and sees to it that a power cut does not take them away with what is in them.
fn make_directory(dir: &Path) -> io::Result<()> {
    let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !dir.exists();
    let made: Vec<&Path> = dir.ancestors().take_while(missing).collect();
    // Payloads are nobody else's business.
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    for parent in made.into_iter().filter_map(Path::parent) {
        let here = parent.as_os_str().is_empty();
        File::open(if here { Path::new(".") } else { parent })?.sync_all()?;
    }
    Ok(())
}

/// Opens, checks and if need be creates or upgrades the database; answers the connection to write with.
pub(super) fn database(dir: &Path) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(OpenError::OldLibrary(rusqlite::version()));
    }
    let file = dir.join(DATABASE_FILE);
    check_header(&file)?;
    make_private(&file).map_err(|error| OpenError::Directory {
        dir: dir.to_owned(),
        error,
    })?;
    let explain = |error: rusqlite::Error| explain(dir, &file, error);
    let mut connection = connect(&file).map_err(explain)?;
    // What the last process left in the log goes to the file, so that the file can be judged.
    let is_read_elsewhere: bool = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))
        .map_err(explain)?;
    if is_read_elsewhere {
        // Then pages may be in the log alone, where SQLite finds them.
        tracing::warn!(file = %file.display(), "another process reads the database: its write-ahead log stays as it is, and the file's length is not checked");
    } else {
        check_length(&connection, &file).map_err(explain)??;
    }
    check_version(&connection, &file).map_err(explain)??;
    migrations()
        .run(&mut connection)
        .map_err(|error| OpenError::Failed {
            file: file.clone(),
            error: error.into(),
        })?;
    Ok(connection)
}

/// Makes the file if there is none, for this user alone. SQLite gives its log and the log's index the same mode.
fn make_private(file: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// A connection that only reads.
pub(super) fn reader(dir: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(dir.join(DATABASE_FILE), flags)?;
    // 2 MiB for each reader: a few pages of a list.
    connection.execute_batch("PRAGMA cache_size = -2048; PRAGMA query_only = ON;")?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    // The id is written before the log begins, so it is in the file itself and not only in the log.
    // What is erased does not stay in free pages: secure_delete.
    // The log is emptied between commits by the writer, never in the middle of one: hence no automatic checkpoint.
    connection.execute_batch(&format!(
        "PRAGMA busy_timeout = 5000;
         PRAGMA page_size = {PAGE_BYTES};
         PRAGMA synchronous = FULL;"
    ))?;
    let is_new: bool =
        connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", (), |row| {
            row.get(0)
        })?;
    if is_new {
        connection.execute_batch(&format!("PRAGMA application_id = {APPLICATION_ID};"))?;
    }
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA wal_autocheckpoint = 0;
         PRAGMA journal_size_limit = 67108864;
         PRAGMA foreign_keys = OFF;
         PRAGMA secure_delete = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -65536;",
    )?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

/// Judges the file before SQLite touches it.
fn check_header(file: &Path) -> Result<(), OpenError> {
    let mut header = [0; 100];
    let foreign = |what| {
        Err(OpenError::Foreign {
            file: file.to_owned(),
            what,
        })
    };
    let read = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
        Ok(opened) => {
            let mut start = Vec::with_capacity(header.len());
            opened
                .take(header.len() as u64)
                .read_to_end(&mut start)
                .map(|_| start)
        }
    };
    let start = read.map_err(|error| OpenError::Failed {
        file: file.to_owned(),
        error: error.into(),
    })?;
    if start.is_empty() {
        // SQLite would begin anew, and throw the log away.
        let log = fs::metadata(file.with_extension("db-wal")).map_or(0, |log| log.len());
        return match log {
            0 => Ok(()),
            bytes => Err(OpenError::Damaged {
                file: file.to_owned(),
                what: format!("it is missing or empty, but its write-ahead log has {bytes} bytes"),
            }),
        };
    }
    let signature = b"SQLite format 3\0";
    if !start.starts_with(&signature[..start.len().min(signature.len())]) {
        return foreign("it is no SQLite database");
    }
    if start.len() < header.len() {
        return Err(OpenError::Damaged {
            file: file.to_owned(),
            what: format!("it ends after {} bytes", start.len()),
        });
    }
    header.copy_from_slice(&start);
    let field = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let (pages, id) = (field(28), field(68));
    match id {
        APPLICATION_ID => Ok(()),
        // A server that was killed while it made the file.
        0 if pages <= 1 => Ok(()),
        _ => foreign("it belongs to another program"),
    }
}

/// A file that was cut off is shorter than its pages; SQLite would notice only when it comes to read one that is missing.
fn check_length(connection: &Connection, file: &Path) -> rusqlite::Result<Result<(), OpenError>> {
    let pragma = |name: &str| connection.query_row(name, (), |row| row.get::<_, i64>(0));
    let expected = pragma("PRAGMA page_count")?.saturating_mul(pragma("PRAGMA page_size")?);
    let expected = u64::try_from(expected).unwrap_or(0);
    let found = fs::metadata(file).map_or(0, |metadata| metadata.len());
    Ok(if found < expected {
        Err(OpenError::Damaged {
            file: file.to_owned(),
            what: format!("it has {found} bytes where {expected} belong"),
        })
    } else {
        Ok(())
    })
}

fn check_version(connection: &Connection, file: &Path) -> rusqlite::Result<Result<(), OpenError>> {
    let known = migrations()
        .get_migrations()
        .iter()
        .map(|migration| i64::from(migration.version()))
        .max()
        .unwrap_or(0);
    let is_there: bool = connection.query_row(
        "SELECT count(*) = 1 FROM sqlite_schema WHERE name = 'schema_version'",
        (),
        |row| row.get(0),
    )?;
    if !is_there {
        return Ok(Ok(()));
    }
    let found: Option<i64> = connection
        .query_row("SELECT max(version) FROM schema_version", (), |row| {
            row.get(0)
        })
        .optional()?
        .flatten();
    Ok(match found {
        Some(found) if found > known => Err(OpenError::TooNew {
            file: file.to_owned(),
            found,
            known,
        }),
        _ => Ok(()),
    })
}

fn migrations() -> refinery::Runner {
    let mut runner = embedded::migrations::runner();
    runner.set_migration_table_name("schema_version");
    runner
}

/// What an error of SQLite means to whoever started the server.
pub(super) fn explain(dir: &Path, file: &Path, error: rusqlite::Error) -> OpenError {
    let file = file.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => OpenError::Full {
            dir: dir.to_owned(),
        },
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged {
            file,
            what: error.to_string(),
        },
        Some(ErrorCode::NotADatabase) => OpenError::Foreign {
            file,
            what: "it is no SQLite database",
        },
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            OpenError::Directory {
                dir: dir.to_owned(),
                error: io::Error::other(error),
            }
        }
        _ => OpenError::Failed {
            file,
            error: error.into(),
        },
    }
}
