//! Keeps web pages of others from reaching this server through the browser of somebody who may: by whose name it is called, and from whose page.

use std::net::IpAddr;

use http::{
    HeaderMap, HeaderName, Method, Uri, header,
    uri::{Authority, Scheme},
};

use crate::{
    api::{Fault, Reason},
    domain::wording::{Sentence, sentence},
};

/// Fetch metadata: whose page makes a browser send a request.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Characters of a name that an error repeats.
const MAX_SHOWN_CHARS: usize = 64;

/// The names of this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Only this machine reaches it, so that only a local name can be meant. A page whose own name was made to lead here would be of the same site.
    is_local: bool,
    more: Vec<String>,
}

impl Hosts {
    /// Of a server that listens there, and has these names besides.
    pub fn new(listen: IpAddr, more: Vec<String>) -> Self {
        Self {
            is_local: listen.to_canonical().is_loopback(),
            more,
        }
    }

    /// Refuses what was sent to somebody else, and what changes something and was sent by a page of another site.
    pub(super) fn admit(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Fault> {
        let host = headers.get(header::HOST).map(|host| host.as_bytes());
        let host = uri.authority().map(|a| a.as_str().as_bytes()).or(host);
        let own = host.and_then(|host| Authority::try_from(host).ok());
        // HTTP/1.0 needs no host, and no browser speaks that.
        if let Some(host) = host
            && self.is_local
            && !own
                .as_ref()
                .is_some_and(|own| !own.as_str().contains('@') && self.is_named(own.host()))
        {
            return Err(unknown_host(host));
        }
        if method.is_safe() {
            return Ok(());
        }
        match headers.get(SEC_FETCH_SITE).map(|site| site.as_bytes()) {
            Some(b"same-origin" | b"none") => return Ok(()),
            Some(_) => return Err(cross_site()),
            // An older browser, or none.
            None => {}
        }
        let Some(origin) = headers.get(header::ORIGIN) else {
            return Ok(());
        };
        match Uri::try_from(origin.as_bytes()) {
            Ok(origin) if self.is_same(&origin, own.as_ref()) => Ok(()),
            Ok(_) | Err(_) => Err(cross_site()),
        }
    }

    fn is_named(&self, name: &str) -> bool {
        let address = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
        let address = address.unwrap_or(name).parse::<IpAddr>();
        address.is_ok_and(|address| address.to_canonical().is_loopback())
            || name.eq_ignore_ascii_case("localhost")
            || self.has(name)
    }

    fn has(&self, name: &str) -> bool {
        self.more.iter().any(|more| more.eq_ignore_ascii_case(name))
    }

    /// Whether a page of this origin is of this server; a proxy may have put its own word in the place of the name that a browser has called.
    fn is_same(&self, origin: &Uri, own: Option<&Authority>) -> bool {
        let Some(page) = origin.authority() else {
            return false;
        };
        let default = match origin.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => 443,
            _ => 80,
        };
        let port = |authority: &Authority| authority.port_u16().unwrap_or(default);
        let is_own = own.is_some_and(|own| {
            own.host().eq_ignore_ascii_case(page.host()) && port(own) == port(page)
        });
        is_own || self.has(page.host())
    }
}

fn unknown_host(host: &[u8]) -> Fault {
    let host = String::from_utf8_lossy(host);
    let host: String = host.chars().take(MAX_SHOWN_CHARS).collect();
    let message = sentence!(
        "unknown-host",
        "this server is not known as {host}; call it as localhost or 127.0.0.1, or let it be started with that name in allowed_hosts",
        host
    );
    Fault::new(Reason::UnknownHost, message)
}

fn cross_site() -> Fault {
    let message = Sentence::plain(
        "cross-site",
        "a page of another site may not make a browser send this; if it is a page of this server behind a proxy, name the proxy in allowed_hosts",
    );
    Fault::new(Reason::CrossSite, message)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
    const ANY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

    /// Why a request is refused, or nothing.
    fn refusal(listen: IpAddr, method: &str, headers: &[(&str, &str)]) -> Option<Reason> {
        let request = Request::builder().method(method).uri("/v1/jobs");
        let request = headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        });
        let (head, ()) = request.body(()).unwrap().into_parts();
        let hosts = Hosts::new(listen, vec!["jobs.example".to_owned()]);
        let admitted = hosts.admit(&head.method, &head.uri, &head.headers);
        admitted.err().map(|fault| fault.reason)
    }

    #[test]
    fn only_this_machine_can_be_meant_where_only_this_machine_comes() {
        for host in [
            "localhost",
            "LocalHost:1",
            "127.0.0.1:7070",
            "127.8.9.1",
            "[::1]:7070",
            "[::ffff:127.0.0.1]",
            "jobs.example",
            "Jobs.Example:443",
        ] {
            assert_eq!(refusal(LOCAL, "GET", &[("host", host)]), None, "{host}");
        }
        assert_eq!(refusal(LOCAL, "GET", &[]), None);
        for host in [
            "",
            "evil.example",
            "evil.example:7070",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.jobs.example",
            "192.0.2.1:7070",
            "[2001:db8::1]",
            "localhost@evil.example",
            "evil.example@localhost",
            "a b",
        ] {
            let refused = refusal(LOCAL, "GET", &[("host", host)]);
            assert_eq!(refused, Some(Reason::UnknownHost), "{host}");
            assert_eq!(refusal(ANY, "GET", &[("host", host)]), None, "{host}");
        }
    }

    #[test]
    fn only_a_page_of_this_server_may_change_anything() {
        let host = ("host", "localhost:7070");
        for (listen, headers) in [
            (LOCAL, &[host] as &[(&str, &str)]),
            (LOCAL, &[host, ("sec-fetch-site", "same-origin")]),
            (LOCAL, &[host, ("sec-fetch-site", "none")]),
            (LOCAL, &[host, ("origin", "http://localhost:7070")]),
            (LOCAL, &[host, ("origin", "https://jobs.example")]),
            (
                ANY,
                &[("host", "a.example"), ("origin", "https://a.example:443")],
            ),
            (
                ANY,
                &[("host", "a.example:80"), ("origin", "http://A.example")],
            ),
        ] {
            assert_eq!(refusal(listen, "POST", headers), None, "{headers:?}");
        }
        for header in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "anything"),
            ("origin", "null"),
            ("origin", ""),
            ("origin", "http://localhost"),
            ("origin", "http://localhost:7071"),
            ("origin", "http://127.0.0.1:7070"),
            ("origin", "https://evil.example"),
            ("origin", "file://"),
        ] {
            for method in ["POST", "DELETE", "PUT", "PATCH"] {
                let refused = refusal(LOCAL, method, &[host, header]);
                assert_eq!(refused, Some(Reason::CrossSite), "{method} {header:?}");
            }
            assert_eq!(refusal(LOCAL, "GET", &[host, header]), None);
        }
    }
}
