//! Where to listen, as people write it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// An IP address and a port. `localhost` stands for 127.0.0.1; no other name is looked up, for one may stand for several addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenAddress(pub SocketAddr);

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let local = || {
            let port = text.strip_prefix("localhost:")?.parse().ok()?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
        };
        text.parse()
            .ok()
            .or_else(local)
            .map(Self)
            .ok_or_else(|| {
                format!(
                    "'{text}' is not an IP address and a port; write it like 127.0.0.1:7070, [::1]:7070 or localhost:7070"
                )
            })
    }
}

impl TryFrom<String> for ListenAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ListenAddress> for String {
    fn from(address: ListenAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_port_and_no_name_but_localhost() {
        for (text, address) in [
            ("127.0.0.1:7301", "127.0.0.1:7301"),
            ("[::1]:0", "[::1]:0"),
            ("localhost:7301", "127.0.0.1:7301"),
        ] {
            let read = text.parse().map(|read: ListenAddress| read.to_string());
            assert_eq!(read.as_deref(), Ok(address));
        }
        for bad in [
            "",
            "7301",
            ":7301",
            "localhost",
            "localhost:",
            "localhost:x",
            "example.com:80",
            "127.0.0.1",
        ] {
            let error = bad.parse::<ListenAddress>().expect_err(bad);
            assert!(error.contains("127.0.0.1:7070"), "{error}");
        }
    }
}
