//! How we connect: the address as people write it, and the HTTP/2 settings.

use std::time::Duration;

use tonic::transport::Endpoint;

use super::ClientError;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent connection is pinged, and how long the answer may take: a dead one is noticed within 40 s.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Bytes of one stream that may be under way unread.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of one connection that may be under way unread. Large, because h2 ends a connection on which too many small unread frames pile up, and so
/// that unread streams do not starve the others.
const CONNECTION_WINDOW_BYTES: u32 = 64 * 1024 * 1024;

/// The endpoint for an address such as `http://127.0.0.1:7070`; the scheme may be left out.
pub(super) fn endpoint(address: &str) -> Result<Endpoint, ClientError> {
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
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(invalid("this version does not speak TLS")),
        _ => return Err(invalid("the scheme is not http")),
    }
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
    let endpoint = Endpoint::from(uri)
        .user_agent(concat!("longhaul/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| invalid(&error.to_string()))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .http2_adaptive_window(false)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
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
            let endpoint = endpoint(address).expect(address);
            assert_eq!(endpoint.uri().port_u16(), Some(7070), "{address}");
        }
    }

    #[test]
    fn what_is_not_a_server_is_refused_with_a_reason() {
        for address in [
            "",
            "http://",
            "ftp://host:1",
            "https://host",
            "http://host/api",
            "http://a b",
            "http://h:99999999",
        ] {
            let error = endpoint(address).expect_err(address).to_string();
            assert!(error.contains("http://127.0.0.1:7070"), "{error}");
        }
    }
}
