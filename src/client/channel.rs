//! How we connect: the address as people write it, and the HTTP/2 settings.

use std::{net::IpAddr, time::Duration};

use tonic::transport::Endpoint;

use super::ClientError;

/// How often a silent connection is pinged, and how long the answer may take: a dead one is noticed within 40 s.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Bytes of one stream that may be under way unread.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of one connection that may be under way unread. Large, because h2 ends a connection on which too many small unread frames pile up, and so
/// that unread streams do not starve the others.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;

/// Where a server is.
#[derive(Debug)]
pub(super) struct Address {
    pub(super) endpoint: Endpoint,
    /// Whether it is spoken to by TLS.
    pub(super) is_tls: bool,
    /// Whether it is on this machine, by its address.
    pub(super) is_local: bool,
}

/// An address such as `http://127.0.0.1:7070`; the scheme may be left out.
pub(super) fn address(address: &str) -> Result<Address, ClientError> {
    let invalid = |reason: &str| ClientError::InvalidEndpoint {
        endpoint: address.to_owned(),
        reason: reason.to_owned(),
    };
    let url = if address.contains("://") {
        address.to_owned()
    } else {
        format!("http://{address}")
    };
    let uri: http::Uri = url
        .parse()
        .map_err(|error: http::uri::InvalidUri| invalid(&error.to_string()))?;
    let is_tls = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(invalid("the scheme is neither http nor https")),
    };
    let Some(authority) = uri
        .authority()
        .filter(|authority| !authority.host().is_empty())
    else {
        return Err(invalid("there is no host"));
    };
    if authority.port_u16().is_none() && authority.as_str() != authority.host() {
        return Err(invalid("what follows the host is not a port"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(invalid("there is a path after the address"));
    }
    let is_local = is_local(authority.host());
    let endpoint = Endpoint::from(uri)
        .user_agent(concat!("longhaul/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| invalid(&error.to_string()))?;
    let endpoint = endpoint
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .http2_adaptive_window(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    Ok(Address {
        endpoint,
        is_tls,
        is_local,
    })
}

/// Whether what is sent there stays on this machine.
fn is_local(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let address: Result<IpAddr, _> = address.unwrap_or(host).parse();
    address.is_ok_and(|address| address.to_canonical().is_loopback())
        || host.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_may_be_left_out() {
        for address in [
            "127.0.0.1:7070",
            "http://127.0.0.1:7070",
            "http://[::1]:7070/",
        ] {
            let found = super::address(address).expect(address);
            assert_eq!(found.endpoint.uri().port_u16(), Some(7070), "{address}");
            assert!(found.is_local && !found.is_tls, "{address}");
        }
    }

    #[test]
    fn who_is_on_this_machine_is_known_by_the_address() {
        for (text, is_tls, is_local) in [
            ("localhost:1", false, true),
            ("127.3.2.1:1", false, true),
            ("https://[::1]", true, true),
            ("https://jobs.example.com", true, false),
            ("192.0.2.1:7070", false, false),
            ("localhost.example.com:1", false, false),
        ] {
            let found = address(text).expect(text);
            assert_eq!((found.is_tls, found.is_local), (is_tls, is_local), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_server_is_refused_with_a_reason() {
        for address in [
            "",
            "http://",
            "ftp://host:1",
            "http://host/api",
            "http://a b",
            "http://h:99999999",
        ] {
            let error = super::address(address).expect_err(address).to_string();
            assert!(error.contains("http://127.0.0.1:7070"), "{error}");
        }
    }
}
