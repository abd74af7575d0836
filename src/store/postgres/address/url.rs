//! Takes the text of an address apart. A URL in libpq's sense: a list of hosts has no place in other URLs, so no general parser reads it.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;

use super::{
    Address, AddressError, DEFAULT_NAME, DEFAULT_PORT, DEFAULT_TIMEOUT, Host, MOST_HOSTS, Place,
    RootSource, Session, TlsMode,
};
use crate::store::postgres::password::{Password, PasswordSource};

/// What may stand behind the question mark.
pub(super) const PARAMETERS: [&str; 12] = [
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "connect_timeout",
    "target_session_attrs",
    "application_name",
];
/// Seconds that an attempt may be given.
const TIMEOUT_RANGE: std::ops::RangeInclusive<u64> = 1..=600;

/// What the parts before the question mark, and the parameters, have said so far. Bytes, because a password need not be text.
#[derive(Default)]
struct Said(BTreeMap<&'static str, Vec<u8>>);

impl Said {
    fn say(&mut self, name: &'static str, value: Vec<u8>) -> Result<(), AddressError> {
        match self.0.insert(name, value) {
            None => Ok(()),
            Some(_) => Err(AddressError::Twice(name.to_owned())),
        }
    }

    fn take(&mut self, name: &'static str) -> Result<Option<String>, AddressError> {
        let Some(bytes) = self.0.remove(name).filter(|bytes| !bytes.is_empty()) else {
            return Ok(None);
        };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(AddressError::Unreadable(name)),
        }
    }
}

pub(super) fn parse(text: &str) -> Result<Address, AddressError> {
    let rest = ["postgres://", "postgresql://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme))
        .ok_or(AddressError::Scheme)?;
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = before.split_once('/').unwrap_or((before, ""));
    let mut said = Said::default();
    let hosts = match authority.rsplit_once('@') {
        Some((who, hosts)) => {
            let (user, password) = match who.split_once(':') {
                Some((user, password)) => (user, Some(password)),
                None => (who, None),
            };
            said.say("user", decode(user, "user")?)?;
            if let Some(password) = password {
                said.say("password", decode(password, "password")?)?;
            }
            hosts
        }
        // A password with a / or a ? in it would be read as a port, a database and parameters, and be told of as such.
        None if authority.contains(':') && rest[authority.len()..].contains('@') => {
            return Err(AddressError::Unreadable("user or password"));
        }
        None => authority,
    };
    if !path.is_empty() {
        said.say("dbname", decode(path, "database")?)?;
    }
    read_parameters(query, &mut said)?;
    let hosts = read_hosts(hosts, &mut said)?;
    assemble(hosts, said)
}

fn read_parameters(query: &str, said: &mut Said) -> Result<(), AddressError> {
    let mut unknown = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(AddressError::Unreadable("list of parameters"));
        };
        let value = decode(value, "list of parameters")?;
        match PARAMETERS.iter().find(|known| **known == name) {
            Some(known) => said.say(known, value)?,
            None => unknown.push(name.to_owned()),
        }
    }
    // Whatever does not look like a name may be part of a password.
    let is_name = |name: &String| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    match unknown {
        unknown if unknown.is_empty() => Ok(()),
        unknown if unknown.iter().all(is_name) => Err(AddressError::Unknown(unknown)),
        _ => Err(AddressError::Unreadable("list of parameters")),
    }
}

fn read_hosts(authority: &str, said: &mut Said) -> Result<Vec<Host>, AddressError> {
    let unreadable = || AddressError::Unreadable("list of hosts");
    let (listed, ports) = (said.take("host")?, said.take("port")?);
    let mut hosts = Vec::new();
    if !authority.is_empty() {
        if listed.is_some() {
            return Err(AddressError::Twice("host".to_owned()));
        }
        for host in authority.split(',') {
            let (name, port) = match host.strip_prefix('[') {
                Some(inner) => {
                    let (name, behind) = inner.split_once(']').ok_or_else(unreadable)?;
                    match behind.strip_prefix(':') {
                        None if !behind.is_empty() => return Err(unreadable()),
                        port => (name, port),
                    }
                }
                None => match host.split_once(':') {
                    Some((name, port)) => (name, Some(port)),
                    None => (host, None),
                },
            };
            let name = String::from_utf8(decode(name, "list of hosts")?);
            hosts.push((name.map_err(|_| unreadable())?, port.map(str::to_owned)));
        }
    }
    for name in listed.iter().flat_map(|list| list.split(',')) {
        hosts.push((name.to_owned(), None));
    }
    if hosts.iter().all(|(name, _)| name.is_empty()) {
        return Err(AddressError::Missing("host"));
    }
    if hosts.len() > MOST_HOSTS {
        return Err(AddressError::TooManyHosts(hosts.len()));
    }
    if let Some(ports) = ports {
        if hosts.iter().any(|(_, port)| port.is_some()) {
            return Err(AddressError::Twice("port".to_owned()));
        }
        let ports: Vec<_> = ports.split(',').collect();
        if ports.len() != 1 && ports.len() != hosts.len() {
            return Err(AddressError::Ports {
                ports: ports.len(),
                hosts: hosts.len(),
            });
        }
        for (i, (_, port)) in hosts.iter_mut().enumerate() {
            *port = ports
                .get(i)
                .or(ports.first())
                .map(|port| (*port).to_owned());
        }
    }
    let read = |(name, port): (String, Option<String>)| {
        let port = match port.as_deref() {
            None | Some("") => DEFAULT_PORT,
            Some(port) => match port.parse() {
                Ok(port) if port != 0 => port,
                _ => return Err(unreadable()),
            },
        };
        let place = match name {
            name if name.starts_with('/') => Place::Socket(PathBuf::from(name)),
            // What has spaces or signs in it is no host, and may be half of a password.
            name if is_host(&name) => Place::Network(name),
            _ => return Err(unreadable()),
        };
        Ok(Host { place, port })
    };
    hosts.into_iter().map(read).collect()
}

fn is_host(name: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || "-._:%".contains(c);
    !name.is_empty() && name.chars().all(is_plain)
}

fn assemble(hosts: Vec<Host>, mut said: Said) -> Result<Address, AddressError> {
    let password = match said.0.remove("password") {
        Some(password) if !password.is_empty() => PasswordSource::Given(Password::new(password)),
        _ => PasswordSource::None,
    };
    let user = said.take("user")?.ok_or(AddressError::Missing("user"))?;
    let root = said.take("sslrootcert")?.map(|root| match root.as_str() {
        "system" => RootSource::System,
        path => RootSource::File(PathBuf::from(path)),
    });
    let tls = match said.take("sslmode")?.as_deref() {
        None if root == Some(RootSource::System) => TlsMode::VerifyFull,
        None | Some("prefer") => TlsMode::Prefer,
        Some("disable") => TlsMode::Disable,
        Some("allow") => TlsMode::Allow,
        Some("require") => TlsMode::Require,
        Some("verify-ca") => TlsMode::VerifyCa,
        Some("verify-full") => TlsMode::VerifyFull,
        Some(_) => {
            return Err(AddressError::Value {
                parameter: "sslmode",
                expected: "disable, allow, prefer, require, verify-ca or verify-full",
            });
        }
    };
    match root {
        None if tls >= TlsMode::VerifyCa => return Err(AddressError::NoRoot(tls)),
        Some(RootSource::System) if tls != TlsMode::VerifyFull => {
            return Err(AddressError::SystemRoot);
        }
        _ => {}
    }
    let identity = match (said.take("sslcert")?, said.take("sslkey")?) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
        (None, None) => None,
        _ => return Err(AddressError::HalfIdentity),
    };
    let timeout = match said.take("connect_timeout")? {
        None => DEFAULT_TIMEOUT,
        Some(text) => match text.parse() {
            Ok(seconds) if TIMEOUT_RANGE.contains(&seconds) => Duration::from_secs(seconds),
            _ => {
                return Err(AddressError::Value {
                    parameter: "connect_timeout",
                    expected: "a number of seconds from 1 to 600",
                });
            }
        },
    };
    let session = match said.take("target_session_attrs")?.as_deref() {
        None | Some("read-write") => Session::ReadWrite,
        Some("primary") => Session::Primary,
        Some("any") => Session::Any,
        Some(_) => {
            return Err(AddressError::Value {
                parameter: "target_session_attrs",
                expected: "read-write, primary or any, because jobs are written",
            });
        }
    };
    let application_name = said.take("application_name")?;
    Ok(Address {
        hosts,
        // As libpq: the database is called as the user unless it is named.
        database: said.take("dbname")?.unwrap_or_else(|| user.clone()),
        user,
        application_name: application_name.unwrap_or_else(|| DEFAULT_NAME.to_owned()),
        password,
        tls,
        root,
        identity,
        timeout,
        session,
    })
}

/// Takes the percent signs out. A lone one is an error, as in libpq, and so is the byte 0, which ends a text in PostgreSQL's protocol.
fn decode(text: &str, part: &'static str) -> Result<Vec<u8>, AddressError> {
    let is_escape = |rest: &str| {
        let digits = rest.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_escape) {
        return Err(AddressError::Unreadable(part));
    }
    let bytes: Vec<u8> = percent_decode_str(text).collect();
    match bytes.contains(&0) {
        true => Err(AddressError::Unreadable(part)),
        false => Ok(bytes),
    }
}
