//! The first key of a server that has none: told on stdout, once, and never in the log.

use std::net::SocketAddr;

use longhaul::server::DEFAULT_LISTEN;

use crate::cli::text::{FAINT, STRONG, paint};

/// The key by itself for whoever reads it by a program; for a person also what to type next.
pub fn lines(key: &str, scheme: &str, listens: SocketAddr, is_terminal: bool) -> Vec<String> {
    if !is_terminal {
        return vec![format!("first key: {key}")];
    }
    let mut lines = vec![
        String::new(),
        paint(
            STRONG,
            "This is the first key. It may do everything, for all tenants, and is not shown again. In another terminal:",
        ),
    ];
    // With TLS it is called by a name of its certificate, which is not known here.
    if scheme == "http" && listens.ip().is_loopback() && listens != DEFAULT_LISTEN {
        lines.push(format!("  export LONGHAUL_ENDPOINT=http://{listens}"));
    }
    lines.extend([
        format!("  export LONGHAUL_API_KEY={key}"),
        format!(
            "  longhaul key create --role submit --role read NAME  {}",
            paint(FAINT, "# a key for somebody else")
        ),
        String::new(),
    ]);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_finds_the_key_and_a_person_what_to_type() {
        let told = lines("lh_a_b", "http", DEFAULT_LISTEN, false);
        assert_eq!(told, ["first key: lh_a_b"]);
        let typed = |scheme, address: &str| {
            let lines = lines("lh_a_b", scheme, address.parse().unwrap(), true);
            let lines = lines.iter().map(|line| line.trim());
            let typed = lines.filter(|line| line.starts_with("export "));
            typed.map(str::to_owned).collect::<Vec<_>>()
        };
        let key = "export LONGHAUL_API_KEY=lh_a_b";
        assert_eq!(typed("http", "127.0.0.1:7070"), [key]);
        assert_eq!(typed("https", "127.0.0.1:9"), [key]);
        assert_eq!(typed("http", "0.0.0.0:9"), [key]);
        let endpoint = "export LONGHAUL_ENDPOINT=http://[::1]:9";
        assert_eq!(typed("http", "[::1]:9"), [endpoint, key]);
    }
}
