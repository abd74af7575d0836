//! Which store: the embedded one, or a PostgreSQL database.
//!
//! Invariant: the text of an address may hold a password, so it is shown only without one, whether it can be read or not; that is why no parser of flags or
//! files, which quote what they refuse, gets to see into it.

use std::{
    convert::Infallible,
    env, fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use longhaul::{
    server::Storage,
    store::postgres::{
        PostgresSettings,
        address::{Address, AddressError},
    },
};
use serde::{Deserialize, Serialize, Serializer};

use crate::cli::exit::Failure;

/// Connections of a node, unless it is told otherwise: one that writes and nine that read.
pub const DEFAULT_CONNECTIONS: usize = 10;
/// One that writes, and one that reads.
pub const MIN_CONNECTIONS: usize = 2;

/// What the operator wrote; nothing for the embedded store.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct StoreText(String);

impl FromStr for StoreText {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl StoreText {
    fn address(&self) -> Option<Result<Address, AddressError>> {
        Some(&self.0)
            .filter(|text| !text.is_empty())
            .map(|text| text.parse())
    }

    /// Whether there is a password in it.
    pub fn holds_password(&self) -> bool {
        matches!(self.address(), Some(Ok(address)) if address.holds_password())
    }
}

impl fmt::Debug for StoreText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            None => f.write_str("StoreText"),
            Some(Ok(address)) => write!(f, "StoreText({})", address.to_url()),
            Some(Err(_)) => f.write_str("StoreText(_)"),
        }
    }
}

/// As it may be printed.
impl Serialize for StoreText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&match self.address() {
            None => String::new(),
            Some(Ok(address)) => address.to_url(),
            Some(Err(_)) => "_".to_owned(),
        })
    }
}

/// What the settings say about it.
#[derive(Debug)]
pub struct Chosen {
    pub store: StoreText,
    pub data_dir: PathBuf,
    pub password_file: PathBuf,
    pub connections: usize,
    pub unsafe_durability: bool,
    /// Those of [`FLAGS`] that were given.
    pub flags: Vec<&'static str>,
}

/// The settings here, and their flags.
pub const FLAGS: [(&str, &str); 5] = [
    ("data_dir", "--data-dir"),
    ("store", "--store"),
    ("store_password_file", "--store-password-file"),
    ("store_connections", "--store-connections"),
    ("unsafe_durability", "--unsafe-durability"),
];
/// Those that count with a database only.
const OF_A_DATABASE: &[(&str, &str)] = FLAGS.split_at(2).1;

/// Makes of what was chosen one store.
pub fn storage(chosen: Chosen) -> Result<Storage, Failure> {
    let Chosen {
        store,
        data_dir,
        password_file,
        connections,
        unsafe_durability,
        flags,
    } = chosen;
    let Some(address) = store.address() else {
        let mut idle = OF_A_DATABASE
            .iter()
            .filter(|(_, flag)| flags.contains(flag));
        return match idle.next() {
            None => Ok(Storage::Embedded(data_dir)),
            Some((_, flag)) => Err(Failure::usage(format!("{flag} counts only with --store"))
                .hint("name the database as well: --store postgres://user@host/database")),
        };
    };
    let wrong = |error: AddressError| Failure::usage(format!("store: {error}"));
    let mut address = address.map_err(wrong)?;
    if flags.contains(&"--data-dir") {
        return Err(Failure::usage(format!(
            "--data-dir is for the embedded store, and the settings say store = {address}: one of them keeps the jobs"
        ))
        .hint("leave out --data-dir, or for the embedded store add --store ''"));
    }
    if password_file != Path::new("") {
        address = address.with_password_file(&password_file).map_err(wrong)?;
    }
    if connections < MIN_CONNECTIONS {
        return Err(Failure::usage(format!(
            "store_connections must be at least {MIN_CONNECTIONS}, one to write and one to read, and is {connections}"
        )));
    }
    Ok(Storage::Postgres(Box::new(PostgresSettings {
        address: address.with_environment(|name| env::var_os(name)),
        connections,
        unsafe_durability,
    })))
}
