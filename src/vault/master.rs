//! Master keys: 32 bytes each, from outside of the store.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    hkdf::{HKDF_SHA256, KeyType, Salt},
    rand::fill,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
/// The name of the key that a server makes for itself.
const OWN_FILE: &str = "master.key";
/// Bytes of the longest text with keys: some dozens of lines.
const MAX_TEXT_BYTES: u64 = 16 * 1024;
/// Former keys that are kept beside the current one.
const MAX_KEYS: usize = 32;

/// A key; wiped from memory when it is dropped.
pub(super) type Key = Zeroizing<[u8; KEY_BYTES]>;

/// The current master key, and those before it that still open what they sealed. Says nothing of itself.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKeys(Vec<Key>);

/// Where master keys come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MasterKeySource {
    /// The data directory: a file that the server makes when it first needs one. There is none without a data directory.
    #[default]
    Own,
    /// A file.
    File(PathBuf),
    /// They are here.
    Given(MasterKeys),
}

/// Why a text is no master key. It is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadMasterKey {
    /// A line is something else.
    #[error(
        "line {0} is no key: 32 bytes are needed, as 64 hexadecimal digits or 44 characters of base64; `head -c 32 /dev/urandom | base64` makes one"
    )]
    Line(usize),
    /// There is no line.
    #[error(
        "there is no key: 32 bytes are needed, in hexadecimal or base64; `head -c 32 /dev/urandom | base64` makes one"
    )]
    Empty,
    /// There are more than anybody rotates.
    #[error("there are more than {MAX_KEYS} keys")]
    TooMany,
}

/// Why a file with master keys can not be used.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyFileError {
    /// It can not be read or made.
    #[error("the master key {} can not be used: {error}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// It holds something else.
    #[error("the master key {} can not be used: {error}", file.display())]
    Bad {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        error: BadMasterKey,
    },
}

impl std::fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MasterKeys({} keys)", self.0.len())
    }
}

impl MasterKeys {
    /// One key.
    pub fn of(key: [u8; KEY_BYTES]) -> Self {
        Self(vec![Zeroizing::new(key)])
    }

    /// Reads keys, one on a line, the current one first. Empty lines and what is behind a `#` do not count.
    ///
    /// # Errors
    /// A line is no key, or there is none.
    pub fn parse(text: &str) -> Result<Self, BadMasterKey> {
        let mut keys = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or("").trim();
            if !line.is_empty() {
                keys.push(key(line).ok_or(BadMasterKey::Line(number))?);
            }
        }
        match keys.len() {
            0 => Err(BadMasterKey::Empty),
            1..=MAX_KEYS => Ok(Self(keys)),
            _ => Err(BadMasterKey::TooMany),
        }
    }

    /// Reads a file with keys.
    ///
    /// # Errors
    /// It can not be read, or holds something else.
    pub fn read(file: &Path) -> Result<Self, MasterKeyFileError> {
        let io = |error| MasterKeyFileError::Io {
            file: file.to_owned(),
            error,
        };
        let opened = File::open(file).map_err(io)?;
        if let Ok(metadata) = opened.metadata()
            && metadata.is_file()
            && metadata.permissions().mode() & 0o077 != 0
        {
            tracing::warn!(file = %file.display(), "others on this machine may read the master key: chmod 600 it");
        }
        let mut text = Zeroizing::new(String::new());
        opened
            .take(MAX_TEXT_BYTES)
            .read_to_string(&mut text)
            .map_err(io)?;
        Self::parse(&text).map_err(|error| MasterKeyFileError::Bad {
            file: file.to_owned(),
            error,
        })
    }

    /// The key in a data directory; it is made if there is none, and on stable storage before anything is sealed with it.
    ///
    /// # Errors
    /// It can not be read or made.
    pub fn of_directory(dir: &Path) -> Result<Self, MasterKeyFileError> {
        let file = dir.join(OWN_FILE);
        match fs::exists(&file) {
            Ok(true) => {}
            Ok(false) => {
                make(dir, &file).map_err(|error| MasterKeyFileError::Io {
                    file: file.clone(),
                    error,
                })?;
                tracing::info!(file = %file.display(), "a master key was made; whoever has it and the data directory can read secrets: keep it elsewhere with --master-key-file, and a copy of it with the backups");
            }
            Err(error) => return Err(MasterKeyFileError::Io { file, error }),
        }
        Self::read(&file)
    }

    /// The keys, the current one first.
    pub(super) fn all(&self) -> &[Key] {
        &self.0
    }
}

/// Makes a key under another name first: a key that is half there would be none.
fn make(dir: &Path, file: &Path) -> io::Result<()> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    fill(bytes.as_mut_slice()).map_err(|_| io::Error::other("the system gave no random bytes"))?;
    let mut text = Zeroizing::new(STANDARD.encode(*bytes));
    text.push('\n');
    let draft = file.with_extension("key.new");
    let mut written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    fs::rename(&draft, file)?;
    File::open(dir)?.sync_all()
}

/// A key from hexadecimal digits or base64.
fn key(text: &str) -> Option<Key> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if text.len() == 2 * KEY_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        for (byte, digits) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).ok()?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        return Some(key);
    }
    let mut decoded = STANDARD.decode(text).ok()?;
    let fits = decoded.len() == KEY_BYTES;
    if fits {
        key.copy_from_slice(&decoded);
    }
    decoded.zeroize();
    fits.then_some(key)
}

/// What a key derived for one purpose tells nothing of the master key, nor of those for others.
pub(super) fn derived(master: &Key, purpose: &[u8]) -> Key {
    let mut derived = Zeroizing::new([0; KEY_BYTES]);
    let secret = Salt::new(HKDF_SHA256, b"longhaul vault 1").extract(master.as_slice());
    let info = [purpose];
    secret
        .expand(&info, OneKey)
        .and_then(|okm| okm.fill(derived.as_mut_slice()))
        .expect("HKDF gives up to 8,160 bytes");
    derived
}

struct OneKey;

impl KeyType for OneKey {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}
