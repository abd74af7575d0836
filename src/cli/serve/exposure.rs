//! Refuses to serve other machines without TLS or without authentication, and says how to have both.

use std::{fmt, fs, net::SocketAddr};

use longhaul::server::ServeSettings;

use crate::cli::exit::Failure;

/// What other machines are served without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Anybody may do everything, and read along.
    Both,
    /// Credentials can be read on the way.
    Tls,
    /// Anybody may do everything.
    Authentication,
}

impl Missing {
    /// What that means.
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Both | Self::Authentication => "whoever reaches the port owns the jobs",
            Self::Tls => {
                "whoever is on the way reads credentials and jobs, and can use what they read"
            }
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "there is neither TLS nor authentication",
            Self::Tls => "there is no TLS",
            Self::Authentication => "there is no authentication",
        })
    }
}

/// What these settings lack; nothing, if only this machine is served.
pub fn missing(settings: &ServeSettings) -> Option<Missing> {
    if settings.listen.ip().to_canonical().is_loopback() {
        return None;
    }
    match (&settings.tls, settings.auth.is_required) {
        (Some(_), true) => None,
        (Some(_), false) => Some(Missing::Authentication),
        (None, true) => Some(Missing::Tls),
        (None, false) => Some(Missing::Both),
    }
}

/// Refuses what lacks something, unless that is asked for.
///
/// # Errors
/// It does.
pub fn refuse(
    settings: &ServeSettings,
    missing: Option<Missing>,
    insecure: bool,
) -> Result<(), Failure> {
    let Some(missing) = missing.filter(|_| !insecure) else {
        return Ok(());
    };
    let listen = settings.listen;
    let local = format!(
        "or listen on 127.0.0.1:{}; or, where {}, and may, add --insecure",
        listen.port(),
        match missing {
            Missing::Both | Missing::Authentication =>
                "every machine that can reach it can submit, read and cancel all jobs",
            Missing::Tls => "every machine on the way can read along",
        }
    );
    let (certificate, key, make) = match &settings.tls {
        Some(tls) => (
            tls.certificate.display().to_string(),
            tls.key.display().to_string(),
            String::new(),
        ),
        None => {
            let make = format!("\n  {}", make_a_certificate(listen, &host_name()));
            ("tls.crt".to_owned(), "tls.key".to_owned(), make)
        }
    };
    Err(Failure::usage(format!(
        "refused to listen on {listen}: other machines could reach it, and {missing}"
    ))
    .hint(format!(
        "serve with both:{make}\n  longhaul serve --listen {listen} --tls-cert {certificate} --tls-key {key} --auth\n{local}"
    )))
}

/// A command that makes one which signs itself, so that it may be its own authority, for the address or name by which this machine is called.
fn make_a_certificate(listen: SocketAddr, host: &str) -> String {
    let ip = listen.ip();
    let (name, alternative) = match ip.is_unspecified() {
        true => (host.to_owned(), format!("DNS:{host}")),
        false => (ip.to_string(), format!("IP:{ip}")),
    };
    format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 -keyout tls.key -out tls.crt -subj /CN={name} -addext subjectAltName={alternative} -addext basicConstraints=critical,CA:FALSE"
    )
}

/// The name that this machine has for itself.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // It stands in a command that is pasted into a shell.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    match name.trim() {
        name if !name.is_empty() && name.chars().all(is_plain) => name.to_owned(),
        _ => "jobs.example.com".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use longhaul::{auth::AuthSettings, server::TlsSettings};

    use super::*;
    use crate::cli::exit::Exit;

    fn settings(listen: &str, tls: bool, auth: bool) -> ServeSettings {
        ServeSettings {
            listen: listen.parse().unwrap(),
            tls: tls.then(|| TlsSettings {
                certificate: "my.crt".into(),
                key: "my.key".into(),
                clients: None,
            }),
            auth: AuthSettings {
                is_required: auth,
                ..AuthSettings::default()
            },
            ..ServeSettings::default()
        }
    }

    #[test]
    fn other_machines_are_served_with_both_or_by_request() {
        for local in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            for (tls, auth) in [(false, false), (true, false), (false, true), (true, true)] {
                assert_eq!(missing(&settings(local, tls, auth)), None, "{local}");
            }
        }
        for open in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:192.0.2.1]:1"] {
            for (tls, auth, expected) in [
                (false, false, Some(Missing::Both)),
                (true, false, Some(Missing::Authentication)),
                (false, true, Some(Missing::Tls)),
                (true, true, None),
            ] {
                let settings = settings(open, tls, auth);
                let missing = missing(&settings);
                assert_eq!(missing, expected, "{open}");
                assert!(refuse(&settings, missing, true).is_ok());
                assert_eq!(refuse(&settings, missing, false).is_ok(), missing.is_none());
            }
        }
    }

    #[test]
    fn a_refusal_shows_what_to_type() {
        let told = |tls, auth| {
            let settings = settings("192.0.2.1:7070", tls, auth);
            let failure = refuse(&settings, missing(&settings), false).expect_err("a refusal");
            assert_eq!(failure.exit(), Exit::Usage);
            anstream::adapter::strip_str(&failure.to_string()).to_string()
        };
        let both = told(false, false);
        for words in [
            "neither TLS nor authentication",
            "\n  openssl req -x509 ",
            " -addext subjectAltName=IP:192.0.2.1 ",
            "\n  longhaul serve --listen 192.0.2.1:7070 --tls-cert tls.crt --tls-key tls.key --auth\n",
            "127.0.0.1:7070",
            "--insecure",
        ] {
            assert!(both.contains(words), "{words:?} is missing: {both}");
        }
        let auth = told(true, false);
        assert!(auth.contains("no authentication") && !auth.contains("openssl"));
        assert!(
            auth.contains("--tls-cert my.crt --tls-key my.key --auth"),
            "{auth}"
        );
        let tls = told(false, true);
        assert!(
            tls.contains("there is no TLS") && tls.contains("openssl"),
            "{tls}"
        );
    }

    #[test]
    fn a_certificate_is_for_the_name_that_is_called() {
        let any = make_a_certificate("0.0.0.0:1".parse().unwrap(), "jobs");
        assert!(
            any.contains("-subj /CN=jobs ") && any.contains("=DNS:jobs "),
            "{any}"
        );
        let one = make_a_certificate("[2001:db8::1]:1".parse().unwrap(), "jobs");
        assert!(one.contains("=IP:2001:db8::1 "), "{one}");
    }
}
