//! What a request brings along to say who calls.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use super::Peer;

/// A credential as it was sent, not looked at yet. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Presented {
    /// Nothing.
    Nothing,
    /// Something that is none.
    Unreadable,
    /// What stands behind `Bearer`, or is the password of `Basic`.
    Bearer(String),
    /// Names in the certificate that the connection was made with.
    Certificate(Arc<[Arc<str>]>),
}

impl Presented {
    /// What stands in the headers; without any, what the connection brought.
    pub fn of(headers: &HeaderMap, peer: Option<&Peer>) -> Self {
        let names = peer.map(|peer| &peer.identities);
        let certificate = names.filter(|names| !names.is_empty());
        let mut given = headers.get_all(AUTHORIZATION).iter();
        match (given.next(), given.next()) {
            (None, _) => {
                certificate.map_or(Self::Nothing, |names| Self::Certificate(Arc::clone(names)))
            }
            (Some(value), None) => read(value).map_or(Self::Unreadable, Self::Bearer),
            // Of two, others may have looked at the other one.
            (Some(_), Some(_)) => Self::Unreadable,
        }
    }
}

/// The schemes' names are the same in any case (RFC 9110, 11.1).
fn read(value: &HeaderValue) -> Option<String> {
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
    // The key is the password, whoever the user is said to be; some tools only have a place for the user.
    let (user, password) = decoded.split_once(':')?;
    let key = if password.is_empty() { user } else { password };
    Some(key.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Presented {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        Presented::of(&headers, None)
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", STANDARD.encode(text))
    }

    #[test]
    fn a_key_comes_as_clients_send_it() {
        let key = || Presented::Bearer("k".to_owned());
        for value in [
            "Bearer k",
            "bearer k",
            "BEARER  k ",
            &basic("anybody:k"),
            &basic("k:"),
            &basic(":k"),
        ] {
            assert!(of(&[value]) == key(), "{value}");
        }
        assert!(of(&[&basic("a:b:c")]) == Presented::Bearer("b:c".to_owned()));
    }

    #[test]
    fn what_can_not_be_read_is_not_taken_for_nothing() {
        for values in [
            &["k"] as &[&str],
            &[""],
            &["Digest k"],
            &["Basic ???"],
            &["Basic aw"],
            &["Bearer k", "Bearer k"],
        ] {
            assert!(of(values) == Presented::Unreadable, "{values:?}");
        }
        assert!(of(&[]) == Presented::Nothing);
    }

    #[test]
    fn a_certificate_counts_where_no_header_does() {
        let certificate: Arc<[Arc<str>]> = ["spiffe://a/b".into()].into();
        let peer = Peer {
            identities: Arc::clone(&certificate),
            ..Peer::plain(([192, 0, 2, 1], 1).into())
        };
        let mut headers = HeaderMap::new();
        let presented = Presented::of(&headers, Some(&peer));
        assert!(presented == Presented::Certificate(Arc::clone(&certificate)));
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer k"));
        let presented = Presented::of(&headers, Some(&peer));
        assert!(presented == Presented::Bearer("k".to_owned()));
    }
}
