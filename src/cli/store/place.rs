//! Where a store is: a directory, or a PostgreSQL database.
//!
//! Invariant: the text of an address may hold a password, so it is shown only without one, whether it can be read or not.

use std::{
    convert::Infallible,
    env, fmt, fs,
    path::{Path, PathBuf, absolute},
    str::FromStr,
    sync::Arc,
};

use longhaul::store::{
    Store,
    postgres::{self, PostgresSettings, Purpose, address::Address},
    sqlite::{OpenError, SqliteStore},
};

use crate::cli::exit::{Exit, Failure};

/// Connections to a database: one that writes, one that reads on, and one for what else is asked.
const CONNECTIONS: usize = 3;
/// What may stand in front of a directory.
const SQLITE: &str = "sqlite:";

/// What was typed.
#[derive(Clone)]
pub struct StoreText(String);

/// What it says.
pub enum Place {
    /// A directory with the embedded store in it.
    Directory(PathBuf),
    /// A database.
    Database(Box<PostgresSettings>),
}

impl FromStr for StoreText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for StoreText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreText(_)")
    }
}

impl StoreText {
    fn is_address(&self) -> bool {
        self.0.contains("://")
    }

    /// Whether there is a password in it.
    pub fn holds_password(&self) -> bool {
        self.is_address() && (self.0.parse()).is_ok_and(|address: Address| address.holds_password())
    }

    /// Reads it.
    ///
    /// # Errors
    /// It names no store.
    pub fn place(
        &self,
        flag: &str,
        password_file: Option<PathBuf>,
        unsafe_durability: bool,
    ) -> Result<Place, Failure> {
        if !self.is_address() {
            if password_file.is_some() {
                return Err(Failure::usage(format!(
                    "{flag}-password-file counts only with a database: {flag} postgres://user@host/database"
                )));
            }
            let dir = Path::new(self.0.strip_prefix(SQLITE).unwrap_or(&self.0));
            let dir = absolute(dir);
            let dir = dir.map_err(|error| Failure::usage(format!("{flag}: {error}")))?;
            return Ok(Place::Directory(dir));
        }
        let wrong = |error| Failure::usage(format!("{flag}: {error}"));
        let mut address: Address = self.0.parse().map_err(wrong)?;
        if let Some(file) = password_file {
            address = address.with_password_file(&file).map_err(wrong)?;
        }
        Ok(Place::Database(Box::new(PostgresSettings {
            address: address.with_environment(|name| env::var_os(name)),
            connections: CONNECTIONS,
            unsafe_durability,
        })))
    }
}

impl Place {
    /// Whether there is a store; of a database opening it tells.
    pub fn is_there(&self) -> bool {
        match self {
            Self::Directory(dir) => SqliteStore::exists(dir),
            Self::Database(_) => true,
        }
    }

    /// Whether both are one, as far as their names tell.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Directory(here), Self::Directory(there)) => {
                let real = |dir: &Path| fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
                real(here) == real(there)
            }
            (Self::Database(here), Self::Database(there)) => {
                here.address.to_url() == there.address.to_url()
            }
            _ => false,
        }
    }

    /// Opens it to copy from it, or to fill it; then it is made if it is not there.
    ///
    /// # Errors
    /// Somebody uses it, or it can not be used.
    pub async fn open(&self, purpose: Purpose) -> Result<Arc<dyn Store>, Failure> {
        match self {
            Self::Directory(dir) => open_directory(dir).await,
            Self::Database(settings) => {
                let opened = postgres::open_to(purpose, PostgresSettings::clone(settings)).await;
                opened.map_err(|error| self.unopened(&error))
            }
        }
    }

    /// Opens what is to be filled, and makes nothing.
    ///
    /// # Errors
    /// Somebody uses it, or it can not be used.
    pub async fn look_at(&self) -> Result<Looked, Failure> {
        match self {
            Self::Directory(dir) if SqliteStore::exists(dir) => {
                Ok(Looked::There(open_directory(dir).await?))
            }
            Self::Directory(_) => Ok(Looked::Missing),
            Self::Database(settings) => {
                let settings = PostgresSettings::clone(settings);
                match postgres::open_to(Purpose::Look, settings).await {
                    Ok(store) => Ok(Looked::There(store)),
                    Err(postgres::OpenError::Nothing) => Ok(Looked::Missing),
                    Err(error @ postgres::OpenError::TooOld { .. }) => {
                        Ok(Looked::Unseen(error.to_string()))
                    }
                    Err(error) => Err(self.unopened(&error)),
                }
            }
        }
    }

    fn unopened(&self, error: &postgres::OpenError) -> Failure {
        Failure::local(format!("can't open {self}"), error)
    }
}

/// What was found of a store that may not be changed.
pub enum Looked {
    /// A store.
    There(Arc<dyn Store>),
    /// None: it would be made.
    Missing,
    /// One that can not be read before it is changed, and why.
    Unseen(String),
}

async fn open_directory(dir: &Path) -> Result<Arc<dyn Store>, Failure> {
    let path = dir.to_owned();
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&path)).await;
    let opened = opened.map_err(|error| Failure::local("can't open it", &error))?;
    Ok(Arc::new(opened.map_err(|error| refused(&error))?))
}

fn refused(error: &OpenError) -> Failure {
    match error {
        OpenError::Locked { dir, pid } => {
            let pid = pid.map_or(String::new(), |pid| format!(", process {pid}"));
            Failure::new(Exit::Failed, format!("{} is in use{pid}", dir.display()))
                .hint("stop the server there: a store is copied while nobody serves it")
        }
        error => Failure::local("can't open the store", error),
    }
}

/// As it can be typed again; never with a password.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(dir) => write!(f, "{SQLITE}{}", dir.display()),
            Self::Database(settings) => f.write_str(&settings.address.to_url()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<Place, Failure> {
        StoreText(text.to_owned()).place("--to", None, false)
    }

    #[test]
    fn a_store_is_a_directory_or_a_database() {
        for (text, shown) in [
            ("/a/b", "sqlite:/a/b"),
            ("sqlite:/a/b", "sqlite:/a/b"),
            ("postgres://ada:secret@h/d", "postgres://ada@h:5432/d"),
        ] {
            assert_eq!(place(text).unwrap().to_string(), shown);
        }
        let Ok(Place::Directory(dir)) = place("data") else {
            panic!("a directory");
        };
        assert!(dir.is_absolute() && dir.ends_with("data"));
    }

    #[test]
    fn nothing_of_what_can_not_be_read_is_shown() {
        for text in ["mysql://ada:secret@h/d", "postgres://ada:secret@:h:x/d"] {
            let told = place(text).err().unwrap().to_string();
            assert!(told.contains("--to") && !told.contains("secret"), "{told}");
            let shown = format!("{:?}", StoreText(text.to_owned()));
            assert!(!shown.contains("secret"));
        }
    }
}
