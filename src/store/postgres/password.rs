//! Passwords: where they come from, and that they are never shown.
//!
//! A file is read anew for each connection, so that a password can be changed while the server runs. Files that hold secrets must be closed to others.

use std::{
    ffi::OsString,
    fmt, fs,
    io::{self, Read},
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use super::address::{Address, Host, Place};

/// Bytes of a file that holds a secret; a longer one is something else.
const MOST_BYTES: u64 = 1 << 20;

/// A password; shown as `_`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Password(Vec<u8>);

impl Password {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("_")
    }
}

/// Where the password comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PasswordSource {
    None,
    /// It stood in the address.
    Given(Password),
    /// It stood in `PGPASSWORD`.
    Variable(Password),
    /// The first line of a file.
    File(SecretFile),
    /// A file in the form of `.pgpass`, if it is there.
    PassFile(SecretFile),
}

/// Why a file with a secret in it can not be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It can not be read.
    #[error("{} can not be read: {error}; check that it exists and that this user may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Others may read it.
    #[error(
        "{} holds a secret and others may read it (mode {mode:04o}); close it: chmod 600, or 640 if it belongs to root", path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is no file, or far too long.
    #[error("{} is no file with a secret in it: {what}", path.display())]
    NoFile {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
}

/// A file that holds a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretFile(PathBuf);

impl SecretFile {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Reads it, if it is closed to others by libpq's rule for keys: nobody but its owner, or a group as well if it is root's.
    pub(super) fn read(&self) -> Result<Vec<u8>, SecretFileError> {
        let unreadable = |error| SecretFileError::Unreadable {
            path: self.0.clone(),
            error,
        };
        let no_file = |what| SecretFileError::NoFile {
            path: self.0.clone(),
            what,
        };
        // Of a pipe, even to open it may wait for ever.
        if !fs::metadata(&self.0).map_err(unreadable)?.is_file() {
            return Err(no_file("it is not a plain file"));
        }
        let file = fs::File::open(&self.0).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let mode = metadata.mode() & 0o777;
        let of_others = if metadata.uid() == 0 { 0o037 } else { 0o077 };
        if mode & of_others != 0 {
            let path = self.0.clone();
            return Err(SecretFileError::Open { path, mode });
        }
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        match bytes.len() as u64 > MOST_BYTES {
            true => Err(no_file("it is longer than 1 MiB")),
            false => Ok(bytes),
        }
    }
}

impl PasswordSource {
    /// As libpq: `PGPASSWORD`, else the file that `PGPASSFILE` names, else `~/.pgpass`.
    pub(super) fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let filled = |name| variable(name).filter(|value| !value.is_empty());
        if let Some(password) = filled("PGPASSWORD") {
            return Self::Variable(Password::new(password.into_vec()));
        }
        let home = || filled("HOME").map(|home| Path::new(&home).join(".pgpass"));
        match filled("PGPASSFILE").map(PathBuf::from).or_else(home) {
            Some(path) => Self::PassFile(SecretFile(path)),
            None => Self::None,
        }
    }

    /// The password for a host. Blocks on a file.
    ///
    /// # Errors
    /// A password file that was named can not be used. One in the form of `.pgpass` was not asked for by name, so it is left out with a warning.
    pub(super) fn get(
        &self,
        address: &Address,
        host: &Host,
    ) -> Result<Option<Password>, SecretFileError> {
        match self {
            Self::None => Ok(None),
            Self::Given(password) | Self::Variable(password) => Ok(Some(password.clone())),
            Self::File(file) => first_line(file).map(Some),
            Self::PassFile(file) => match file.read() {
                Ok(text) => Ok(look_up(&text, address, host)),
                Err(SecretFileError::Unreadable { error, .. })
                    if error.kind() == io::ErrorKind::NotFound =>
                {
                    Ok(None)
                }
                Err(error) => {
                    tracing::warn!(%error, "connecting without the passwords in this file");
                    Ok(None)
                }
            },
        }
    }
}

fn first_line(file: &SecretFile) -> Result<Password, SecretFileError> {
    let mut line = file.read()?;
    if let Some(end) = line.iter().position(|byte| *byte == b'\n') {
        line.truncate(end);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    let wrong = |what| SecretFileError::NoFile {
        path: file.0.clone(),
        what,
    };
    match line {
        line if line.is_empty() => Err(wrong("its first line is empty")),
        line if line.contains(&0) => Err(wrong("its first line holds a byte 0")),
        line => Ok(Password(line)),
    }
}

/// The password on the first line `host:port:database:user:password` that fits; `*` fits all.
fn look_up(text: &[u8], address: &Address, host: &Host) -> Option<Password> {
    let port = host.port.to_string();
    let names: Vec<&[u8]> = match &host.place {
        Place::Network(name) => vec![name.as_bytes()],
        Place::Socket(path) => vec![b"localhost", path.as_os_str().as_encoded_bytes()],
    };
    let fits = |field: &[u8], name: &[u8]| field == b"*" || unescaped(field) == name;
    text.split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.starts_with(b"#"))
        .find_map(|line| {
            let [of_host, of_port, of_database, of_user, password] = fields(line)?;
            let is_it = names.iter().any(|name| fits(of_host, name))
                && fits(of_port, port.as_bytes())
                && fits(of_database, address.database.as_bytes())
                && fits(of_user, address.user.as_bytes());
            is_it.then(|| Password(unescaped(password)))
        })
}

/// Cuts at the first four colons that have no backslash before them.
fn fields(line: &[u8]) -> Option<[&[u8]; 5]> {
    let mut cut = [&[][..]; 5];
    let mut rest = line;
    for field in &mut cut[..4] {
        let mut escaped = false;
        let end = rest.iter().position(|byte| {
            let is_end = *byte == b':' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            is_end
        })?;
        (*field, rest) = (&rest[..end], &rest[end + 1..]);
    }
    cut[4] = rest;
    Some(cut)
}

fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => *bytes.next().unwrap_or(byte),
            byte => *byte,
        });
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn address(text: &str) -> Address {
        text.parse().expect("an address")
    }

    fn file(text: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), text).expect("a temporary file");
        fs::set_permissions(file.path(), fs::Permissions::from_mode(mode)).expect("its mode");
        file
    }

    fn get(address: &Address) -> Result<Option<Vec<u8>>, SecretFileError> {
        let password = address.password.get(address, &address.hosts[0])?;
        Ok(password.map(|password| password.0))
    }

    #[test]
    fn the_first_line_of_a_closed_file_is_the_password() {
        for text in [
            &b"s3cret"[..],
            b"s3cret\n",
            b"s3cret\r\n",
            b"s3cret\nmore\n",
        ] {
            let file = file(text, 0o600);
            let address = address("postgres://u@h/d").with_password_file(file.path());
            let got = get(&address.expect("no other password")).expect("a password");
            assert_eq!(got.as_deref(), Some(&b"s3cret"[..]));
        }
        let empty = file(b"\n", 0o600);
        let of_empty = address("postgres://u@h/d").with_password_file(empty.path());
        let error = get(&of_empty.expect("no other password")).expect_err("no password");
        assert!(error.to_string().contains("empty"), "{error}");
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        for (mode, is_fine) in [
            (0o600, true),
            (0o400, true),
            (0o604, false),
            (0o644, false),
            (0o660, false),
        ] {
            let file = file(b"s3cret", mode);
            let address = address("postgres://u@h/d").with_password_file(file.path());
            let got = get(&address.expect("no other password"));
            assert_eq!(got.is_ok(), is_fine, "{mode:o}: {got:?}");
            if let Err(error) = got {
                let told = error.to_string();
                assert!(
                    told.contains("chmod 600") && !told.contains("s3cret"),
                    "{told}"
                );
            }
        }
        let missing = address("postgres://u@h/d").with_password_file(Path::new("/nonexistent/pw"));
        let error = get(&missing.expect("no other password")).expect_err("no file");
        assert!(error.to_string().contains("/nonexistent/pw"), "{error}");
        let folder = address("postgres://u@h/d").with_password_file(Path::new("/"));
        assert!(get(&folder.expect("no other password")).is_err());
    }

    #[test]
    fn the_environment_counts_where_nothing_was_named() {
        let variables = |name: &str| (name == "PGPASSWORD").then(|| OsString::from("of-variable"));
        let of = |text: &str| get(&address(text).with_environment(variables)).expect("a password");
        assert_eq!(of("postgres://u@h/d").as_deref(), Some(&b"of-variable"[..]));
        assert_eq!(of("postgres://u:p@h/d").as_deref(), Some(&b"p"[..]));
        assert_eq!(get(&address("postgres://u@h/d")).expect("none"), None);
    }

    #[test]
    fn a_passfile_is_read_as_libpq_does() {
        let text = b"# comment\nother:*:*:*:no\nh:5432:d:u:a\\:b\\\\c\nh:*:*:*:later\n\nlocalhost:*:*:u:by-socket\n";
        for (url, expected) in [
            ("postgres://u@h/d", Some(&b"a:b\\c"[..])),
            ("postgres://u@h:5433/d", Some(b"later")),
            ("postgres://u@/d?host=/run/pg", Some(b"by-socket")),
            ("postgres://u@else/d", None),
        ] {
            let address = address(url);
            let found = look_up(text, &address, &address.hosts[0]);
            assert_eq!(found.as_ref().map(Password::as_bytes), expected, "{url}");
        }
        let closed = file(b"h:*:*:*:found", 0o600);
        let open = file(b"h:*:*:*:found", 0o644);
        for (file, expected) in [(&closed, Some(&b"found"[..])), (&open, None)] {
            let variables =
                |name: &str| (name == "PGPASSFILE").then(|| file.path().as_os_str().to_owned());
            let address = address("postgres://u@h/d").with_environment(variables);
            assert_eq!(get(&address).expect("no error").as_deref(), expected);
        }
    }
}
