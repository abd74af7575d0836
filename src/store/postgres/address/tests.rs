//! Addresses: what is understood, what is refused, and that no password is shown.

use super::*;

fn read(text: &str) -> Address {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refusal(text: &str) -> AddressError {
    match text.parse::<Address>() {
        Ok(address) => panic!("{text} was read as {address:?}"),
        Err(error) => error,
    }
}

#[test]
fn an_address_is_read_as_libpq_does() {
    for (text, printed) in [
        ("postgres://u@h/d", "postgres://u@h:5432/d"),
        ("postgresql://u@h:7/d", "postgres://u@h:7/d"),
        ("postgres://u@h", "postgres://u@h:5432/u"),
        ("postgres://u@h1,h2:7/d", "postgres://u@h1:5432,h2:7/d"),
        (
            "postgres://u@[::1]:7,[fe80::2]/d",
            "postgres://u@[::1]:7,[fe80::2]:5432/d",
        ),
        (
            "postgres://u@%2Frun%2Fpg:7/d",
            "postgres://u@%2Frun%2Fpg:7/d",
        ),
        (
            "postgres://u@/d?host=/run/pg",
            "postgres://u@%2Frun%2Fpg:5432/d",
        ),
        (
            "postgres:///?user=u&dbname=d&host=a,b&port=1,2",
            "postgres://u@a:1,b:2/d",
        ),
        ("postgres://u@/d?host=a,b&port=7", "postgres://u@a:7,b:7/d"),
        (
            "postgres://u@/d?host=a,b&port=7,",
            "postgres://u@a:7,b:5432/d",
        ),
        (
            "postgres://me%40here@h/a%20b",
            "postgres://me%40here@h:5432/a%20b",
        ),
        (
            "postgres://h/d?user=me@here",
            "postgres://me%40here@h:5432/d",
        ),
    ] {
        assert_eq!(read(text).to_string(), printed, "{text}");
        assert_eq!(read(printed), read(text), "what is printed means the same");
    }
}

#[test]
fn the_modes_are_those_of_libpq() {
    let tls = |parameters: &str| read(&format!("postgres://u@h/d?{parameters}")).tls;
    assert_eq!(tls(""), TlsMode::Prefer);
    for mode in [
        "disable",
        "allow",
        "prefer",
        "require",
        "verify-ca",
        "verify-full",
    ] {
        let read = tls(&format!("sslmode={mode}&sslrootcert=/ca.pem"));
        assert_eq!(read.to_string(), mode);
    }
    assert_eq!(tls("sslrootcert=system"), TlsMode::VerifyFull);
    assert_eq!(
        refusal("postgres://u@h/d?sslmode=verify-ca"),
        AddressError::NoRoot(TlsMode::VerifyCa)
    );
    for weak in ["require", "verify-ca", "prefer"] {
        let text = format!("postgres://u@h/d?sslmode={weak}&sslrootcert=system");
        assert_eq!(refusal(&text), AddressError::SystemRoot);
    }
    assert_eq!(
        refusal("postgres://u@h/d?sslcert=/c"),
        AddressError::HalfIdentity
    );
    assert!(
        refusal("postgres://u@h/d?sslmode=always")
            .to_string()
            .contains("verify-full")
    );
}

#[test]
fn every_parameter_is_kept_in_what_is_printed_but_the_password() {
    let text = "postgres://u:s3cret@h/d?sslmode=verify-full&sslrootcert=/a%20b/ca.pem&sslcert=/c.pem&sslkey=/k.pem\
                &connect_timeout=7&target_session_attrs=any&application_name=node%201";
    let address = read(text);
    let printed = address.to_url();
    assert_eq!(
        printed,
        "postgres://u@h:5432/d?sslmode=verify-full&sslrootcert=/a%20b/ca.pem&sslcert=/c.pem&sslkey=/k.pem\
         &connect_timeout=7&target_session_attrs=any&application_name=node%201"
    );
    let mut again = read(&printed);
    assert_ne!(again, address, "the password");
    again.password = address.password.clone();
    assert_eq!(again, address);
}

#[test]
fn no_password_is_shown() {
    for text in [
        "postgres://u:s3cret@h/d",
        "postgres://u@h/d?password=s3cret",
    ] {
        let address = read(text);
        assert!(address.holds_password());
        for shown in [
            address.to_string(),
            address.to_url(),
            format!("{address:?} {address:#?}"),
        ] {
            assert!(shown.contains('u') && !shown.contains("s3cret"), "{shown}");
        }
    }
    // The control: what is looked for is there.
    let address = read("postgres://u:%733cret@h/d");
    assert!(
        matches!(&address.password, PasswordSource::Given(password) if password.as_bytes() == b"s3cret")
    );
}

#[test]
fn no_error_shows_a_password_that_was_written_wrongly() {
    for text in [
        "u:s3cret@h/d",
        "http://u:s3cret@h/d",
        "postgres://u:s3cret/@h/d",
        "postgres://u:s3cret?@h/d",
        "postgres://u:s3cret?x=s3cret@h/d",
        "postgres://u:12?s3cret=s3cret@h/d",
        "postgres://u:s3cret%@h/d",
        "postgres://u:s3cret@h:port/d",
        "postgres://u:s3cret@h:0/d",
        "postgres://u:a b@s3cret secret/d",
        "postgres://u:s3cret@h/d?password=s3cret",
        "postgres://u:s3cret@h/d?passwort=s3cret",
        "postgres://u:s3cret@h/d?sslmode=s3cret",
        "postgres://u:s3cret@h/d?connect_timeout=s3cret",
        "postgres://u:s3cret@h/d?s3cret",
        "postgres://u:s3cret@h/d?S3 s3cret=1",
        "postgres://u@h/d?user=s3cret&host=s3cret",
    ] {
        let told = format!("{0} {0:?}", refusal(text));
        assert!(!told.contains("s3cret"), "{text}: {told}");
    }
}

#[test]
fn all_unknown_parameters_are_named_at_once() {
    let error =
        refusal("postgres://u@h/d?sslmod=require&options=-c&connect_timeout=5&krbsrvname=x");
    let unknown = ["sslmod", "options", "krbsrvname"].map(str::to_owned);
    assert_eq!(error, AddressError::Unknown(unknown.into()));
    assert!(
        error.to_string().contains("target_session_attrs"),
        "{error}"
    );
}

#[test]
fn what_libpq_would_guess_has_to_be_named() {
    assert_eq!(refusal("postgres://h/d"), AddressError::Missing("user"));
    assert_eq!(refusal("postgres://u@/d"), AddressError::Missing("host"));
    assert_eq!(refusal("postgres://"), AddressError::Missing("host"));
}

#[test]
fn what_is_said_twice_or_does_not_fit_is_refused() {
    let twice = |name: &str| AddressError::Twice(name.to_owned());
    for (text, error) in [
        ("postgres://u@h/d?user=v", twice("user")),
        ("postgres://u@h/d?host=g", twice("host")),
        ("postgres://u@h:1/d?port=2", twice("port")),
        (
            "postgres://u@h/d?sslmode=allow&sslmode=allow",
            twice("sslmode"),
        ),
        (
            "postgres://u@a,b/d?port=1,2,3",
            AddressError::Ports { ports: 3, hosts: 2 },
        ),
        (
            "postgres://u@a,,b/d",
            AddressError::Unreadable("list of hosts"),
        ),
        ("postgres://u@h/d%zz", AddressError::Unreadable("database")),
        ("postgres://u%00@h/d", AddressError::Unreadable("user")),
    ] {
        assert_eq!(refusal(text), error, "{text}");
    }
    let many = vec!["h"; MOST_HOSTS + 1].join(",");
    assert_eq!(
        refusal(&format!("postgres://u@{many}/d")),
        AddressError::TooManyHosts(17)
    );
    assert_eq!(
        read(&format!("postgres://u@{}/d", &many[2..])).hosts.len(),
        MOST_HOSTS
    );
    for seconds in ["0", "-1", "601", "x"] {
        refusal(&format!("postgres://u@h/d?connect_timeout={seconds}"));
    }
    refusal("postgres://u@h/d?target_session_attrs=standby");
}

#[test]
fn one_password_is_enough() {
    let file = Path::new("/run/secrets/password");
    let twice = read("postgres://u:p@h/d").with_password_file(file);
    assert_eq!(twice.err(), Some(AddressError::TwoPasswords));
    let once = read("postgres://u@h/d").with_environment(|_| Some("x".into()));
    assert!(once.with_password_file(file).is_ok());
}

#[test]
fn another_database_of_a_server_is_reached_in_the_same_way() {
    for text in [
        "postgres://me@localhost",
        "postgres://u:p%2F%3F%26%20%25@h1,h2:7/d?sslmode=require&connect_timeout=7",
        "postgres:///?user=u&dbname=d&host=/run/pg&password=%ff",
        "postgres://u@[::1]/d?target_session_attrs=any&application_name=a%20b",
    ] {
        let given = read(text);
        let other = given.clone().with_database("x");
        assert_eq!(other.database, "x");
        assert_eq!(read(&other.to_secret_url()), other, "{text}");
        assert!(!other.to_url().contains("password"));
        assert_eq!(other.with_database(&given.database), given);
    }
}
