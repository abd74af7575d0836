//! Names of the server, as people write them.

use std::{fmt, str::FromStr};

use http::uri::Authority;
use serde::{Deserialize, Serialize};

/// A name or address without a port: the server is meant whatever port a proxy in front of it has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(pub String);

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let authority = text.parse::<Authority>().ok();
        // No character stands for others.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[:]".contains(&byte);
        let is_host = authority.is_some_and(|authority| authority.host() == text);
        match is_host && text.bytes().all(is_plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "'{text}' is not the name of a host; write it like jobs.example.com, without scheme and port"
            )),
        }
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_neither_scheme_nor_port() {
        for name in ["jobs.example.com", "gateway", "192.0.2.1", "[2001:db8::1]"] {
            assert_eq!(name.parse(), Ok(HostName(name.to_owned())));
        }
        for bad in ["", "https://a", "a:443", "a/b", "a b", "u@a", "*"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }
}
