use std::{collections::BTreeMap, os::unix::fs::PermissionsExt as _, sync::Arc};

use prost::Message as _;
use serde_json::json;

use super::*;
use crate::{
    domain::{Document, JobId, Tenant, task::Progress},
    proto::{Struct, sensitive::MASK},
};

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn key(tenant: &str, n: u128) -> JobKey {
    JobKey {
        tenant: Tenant(Arc::from(tenant)),
        job: JobId(uuid::Uuid::from_u128(n)),
    }
}

fn vault(masters: &MasterKeys) -> Vault {
    Vault::new(masters, &DataKeys::default()).expect("a vault")
}

/// Keys of these bytes, the current one first.
fn masters(bytes: &[u8]) -> MasterKeys {
    let lines = bytes.iter().map(|byte| format!("{byte:02x}").repeat(32));
    MasterKeys::parse(&lines.collect::<Vec<_>>().join("\n")).expect("keys")
}

fn hidden(secrets: &[(&str, &str)], payload: serde_json::Value) -> Hidden {
    let (_, taken) = Struct::from_json(&payload)
        .expect("an object")
        .split(&[])
        .expect("a payload");
    let secrets = secrets
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Hidden::new(
        secrets.collect(),
        taken.map_or_else(Vec::new, |taken| taken.to_bytes()),
    )
}

#[test]
fn what_is_sealed_opens_for_its_task_alone() {
    let vault = vault(&masters(&[1]));
    let of = |secret: &str| hidden(&[("db", secret)], json!({"password": "p-1234"}));
    let job = key("acme", 1);
    let sealed = vault
        .seal(&job, 0, &of("hunter2-canary"), NOW)
        .expect("a key");
    assert_eq!(vault.open(&job, 0, &sealed), Some(of("hunter2-canary")));
    assert!(!sealed.windows(7).any(|window| window == b"hunter2"));
    for (other, ordinal) in [(key("acme", 2), 0), (key("acmf", 1), 0), (job.clone(), 1)] {
        assert_eq!(vault.open(&other, ordinal, &sealed), None);
    }
    for at in 0..sealed.len() {
        let mut tampered = sealed.to_vec();
        tampered[at] ^= 1;
        assert_eq!(vault.open(&job, 0, &tampered), None, "byte {at}");
        assert_eq!(vault.open(&job, 0, &sealed[..at]), None, "{at} bytes");
    }
    let again = vault
        .seal(&job, 0, &of("hunter2-canary"), NOW)
        .expect("a key");
    assert_ne!(sealed, again, "the same text has another nonce each time");
}

#[test]
fn a_former_master_key_opens_and_the_current_one_seals() {
    let job = key("acme", 1);
    let secret = hidden(&[("a", "b")], json!({}));
    let sealed = vault(&masters(&[1]))
        .seal(&job, 0, &secret, NOW)
        .expect("a key");
    let rotated = vault(&masters(&[2, 1]));
    assert_eq!(rotated.open(&job, 0, &sealed), Some(secret.clone()));
    let new = rotated.seal(&job, 0, &secret, NOW).expect("a key");
    assert_eq!(vault(&masters(&[2])).open(&job, 0, &new), Some(secret));
    assert_eq!(vault(&masters(&[1])).open(&job, 0, &new), None);
    assert_eq!(vault(&masters(&[2])).open(&job, 0, &sealed), None);
    let none = Vault::without_key();
    assert!(!none.can_seal() && none.open(&job, 0, &sealed).is_none());
}

#[test]
fn data_keys_seal_from_their_time_on_and_open_for_ever() {
    let old = masters(&[1]);
    let later = NOW.after(std::time::Duration::from_secs(60));
    let keys: Vec<DataKeyEntry> = [(1, NOW), (2, later)]
        .map(|(id, from)| keyring::make(id, from, &old).expect("random bytes"))
        .into();
    let data = |keys: &[DataKeyEntry]| DataKeys {
        keys: keys.to_vec(),
        fingerprint: None,
    };
    let vault = Vault::new(&old, &data(&keys)).expect("a vault");
    let job = key("acme", 1);
    let secret = hidden(&[("a", "b")], json!({}));
    let before = Timestamp::from_micros(NOW.as_micros() - 1);
    for (time, id) in [(before, 0), (NOW, 1), (later, 2)] {
        let sealed = vault.seal(&job, 0, &secret, time).expect("a key");
        assert_eq!(sealed[1..5], u32::to_be_bytes(id));
        assert_eq!(vault.open(&job, 0, &sealed), Some(secret.clone()));
    }
    // A change of the master key leaves the data keys, and what they sealed, as they are.
    let sealed = vault.seal(&job, 0, &secret, later).expect("a key");
    let both = masters(&[9, 1]);
    let rewrapped: Vec<DataKeyEntry> = keys
        .iter()
        .map(|key| keyring::rewrapped(key, &both).expect("both keys"))
        .collect();
    let new = Vault::new(&masters(&[9]), &data(&rewrapped)).expect("a vault");
    assert_eq!(new.open(&job, 0, &sealed), Some(secret));
    let refused = Vault::new(&masters(&[9]), &data(&keys)).err();
    assert_eq!(refused, Some(Unwrappable(1)));
    // A wrapped key is that of its number.
    let swapped = DataKeyEntry {
        number: 7,
        ..keys[0].clone()
    };
    assert_eq!(
        Vault::new(&old, &data(&[swapped])).err(),
        Some(Unwrappable(7))
    );
}

#[test]
fn a_fingerprint_stays_when_the_master_key_changes_and_can_not_be_made_without_it() {
    let of = |vault: &Vault, parts: &[&[u8]]| vault.fingerprint(parts);
    let old = vault(&masters(&[1]));
    let told = of(&old, &[b"a", b"bc"]);
    assert_eq!(of(&vault(&masters(&[2, 1])), &[b"a", b"bc"]), told);
    assert_ne!(of(&vault(&masters(&[2])), &[b"a", b"bc"]), told);
    assert_ne!(of(&old, &[b"ab", b"c"]), told);
    let kept = keyring::make(0, NOW, &masters(&[1])).expect("random bytes");
    let with = |masters: &MasterKeys, kept: DataKeyEntry| {
        let data = DataKeys {
            keys: Vec::new(),
            fingerprint: Some(kept),
        };
        Vault::new(masters, &data).expect("a vault")
    };
    let told = of(&with(&masters(&[1]), kept.clone()), &[b"a"]);
    let rewrapped = keyring::rewrapped(&kept, &masters(&[3, 1])).expect("both keys");
    assert_eq!(of(&with(&masters(&[3]), rewrapped), &[b"a"]), told);
}

#[test]
fn keys_are_rotated_with_the_master_key_and_without() {
    let (first, both) = (masters(&[1]), masters(&[9, 1]));
    let vault = Vault::new(&first, &DataKeys::default()).expect("a vault");
    let before = vault.fingerprint(&[b"a"]);
    let kept = vault.rotated(&DataKeys::default(), NOW).expect("a key");
    let numbers: Vec<u32> = kept.iter().map(|key| key.number).collect();
    assert_eq!(numbers, [0, 1]);
    assert_eq!(vault.token_key_at(NOW), None);
    vault.renew(&DataKeys::of(kept.clone())).expect("own keys");
    let (job, secret) = (key("acme", 1), hidden(&[("a", "b")], json!({})));
    let sealed = vault.seal(&job, 0, &secret, NOW).expect("a key");
    let (number, token_key) = vault.token_key_at(NOW).expect("a key");
    assert_eq!((number, vault.token_key(1)), (1, Some(token_key)));
    // The master key is another one, which alone opens all of it from then on.
    let other = Vault::new(&both, &DataKeys::of(kept.clone())).expect("a vault");
    let later = NOW.after(std::time::Duration::from_secs(1));
    let kept = other.rotated(&DataKeys::of(kept), later).expect("a key");
    let alone = Vault::new(&masters(&[9]), &DataKeys::of(kept.clone())).expect("a vault");
    assert_eq!(alone.open(&job, 0, &sealed), Some(secret));
    assert_eq!(alone.fingerprint(&[b"a"]), before);
    assert_eq!(alone.token_key(1), Some(token_key));
    assert_eq!(alone.token_key_at(NOW), Some((1, token_key)));
    assert_eq!(alone.token_key_at(later).map(|(number, _)| number), Some(2));
    assert_eq!(alone.token_key(3), None);
    // Who has the former one alone is told so, and keeps what it knows.
    assert!(vault.renew(&DataKeys::of(kept)).is_err());
    assert!(vault.open(&job, 0, &sealed).is_some());
    let none = Vault::without_key().rotated(&DataKeys::default(), NOW);
    assert_eq!(none, Err(RotateError::NoMasterKey));
}

#[test]
fn a_master_key_is_read_in_hexadecimal_and_base64() {
    let base64 = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let hex = "07".repeat(32);
    for text in [
        base64.to_owned(),
        hex.clone(),
        hex.to_uppercase(),
        format!("# made today\n\n {hex} # current\n"),
    ] {
        assert_eq!(
            MasterKeys::parse(&text),
            Ok(MasterKeys::of([7; 32])),
            "{text}"
        );
    }
    let two = MasterKeys::parse(&format!("{base64}\n{}", "08".repeat(32))).expect("two keys");
    assert_eq!(two, masters(&[7, 8]));
    assert_eq!(format!("{two:?}"), "MasterKeys(2 keys)");
    for (text, error) in [
        ("", BadMasterKey::Empty),
        ("# nothing\n", BadMasterKey::Empty),
        ("secret", BadMasterKey::Line(1)),
        (&hex[1..], BadMasterKey::Line(1)),
        (&format!("{hex}\n{}é", &hex[2..]), BadMasterKey::Line(2)),
        (&format!("{hex}\n").repeat(33), BadMasterKey::TooMany),
    ] {
        assert_eq!(MasterKeys::parse(text), Err(error), "{text}");
    }
}

#[test]
fn a_directory_has_one_key_for_its_owner_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = MasterKeys::of_directory(dir.path()).expect("a key");
    let file = dir.path().join("master.key");
    let mode = std::fs::metadata(&file)
        .expect("a file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(MasterKeys::of_directory(dir.path()).expect("a key"), made);
    let files = std::fs::read_dir(dir.path()).expect("a directory").count();
    assert_eq!(files, 1, "no draft is left");
    std::fs::write(&file, "something else").expect("a file");
    let error = MasterKeys::of_directory(dir.path())
        .expect_err("no key")
        .to_string();
    assert!(
        error.contains("master.key") && error.contains("line 1") && !error.contains("something"),
        "{error}"
    );
}

fn redacted(hidden: &Hidden, text: &str) -> String {
    let report = Report::Warning {
        message: text.to_owned(),
    };
    match Redaction::of(hidden).report(report) {
        Report::Warning { message } => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_secret_is_found_in_the_forms_in_which_programs_print_it() {
    let secret = "s3cr3t/p@ss \"wörd\"";
    let hidden = hidden(
        &[
            ("a", secret),
            ("b", "s3cr3t"),
            ("c", "key-1\n-----LINE TWO-----\nshort\n"),
        ],
        json!({"password": "from the payload"}),
    );
    let b64 = |text: &str| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
    for (text, expected) in [
        (
            format!("login with {secret}!"),
            "login with ********!".to_owned(),
        ),
        (
            "s3cr3t, twice: s3cr3ts3cr3t".into(),
            "********, twice: ****************".into(),
        ),
        ("got from the payload".into(), "got ********".into()),
        (
            "GET /?p=s3cr3t%2Fp%40ss%20%22w%C3%B6rd%22&x".into(),
            "GET /?p=********&x".into(),
        ),
        (
            "GET /?p=s3cr3t%2fp%40ss%20%22w%c3%b6rd%22&x".into(),
            "GET /?p=********&x".into(),
        ),
        (
            "p=s3cr3t%2Fp%40ss+%22w%C3%B6rd%22".into(),
            "p=********".into(),
        ),
        (
            r#"{"p":"s3cr3t/p@ss \"wörd\""}"#.into(),
            r#"{"p":"********"}"#.into(),
        ),
        ("read -----LINE TWO-----".into(), "read ********".into()),
        (
            "short and s3cr, which say nothing".into(),
            "short and s3cr, which say nothing".into(),
        ),
    ] {
        assert_eq!(redacted(&hidden, &text), expected, "{text}");
    }
    for around in ["", "u", "us", "use", "user:"] {
        let text = b64(&format!("{around}{secret}{around}"));
        let told = redacted(&hidden, &text);
        assert!(
            told.contains(MASK) && !told.contains(&b64(secret)[4..16]),
            "{around}: {text} {told}"
        );
    }
}

#[test]
fn every_text_of_a_report_is_searched_and_nothing_else_changes() {
    let vault = vault(&masters(&[1]));
    let job = key("acme", 1);
    let secret = hidden(&[("pin", "123"), ("word", "open sesame")], json!({}));
    let sealed = vault.seal(&job, 0, &secret, NOW).expect("a key");
    let text = || "say open sesame 123".to_owned();
    let result = json!({"a": [text(), 1.5, null, {"open sesame": true}], "b": {"c": "x open sesame"}, "d": "clean"});
    let document = Struct::from_json(&result).expect("an object");
    let document = Document(document.encode_to_vec().into());
    let progress = Progress {
        done: 1,
        total: 2,
        unit: text(),
        message: text(),
    };
    let reports = [
        Report::Progress {
            progress: Some(progress),
            status_detail: text(),
        },
        Report::Warning { message: text() },
        Report::Success {
            result: Some(document.clone()),
            status_detail: text(),
        },
        Report::Failure {
            message: text(),
            reason: text(),
            permanent: true,
            retry_after: None,
            status_detail: text(),
        },
        Report::Release { reason: text() },
        Report::Cancelled {
            status_detail: text(),
        },
    ];
    let with_key = |report: &Report| vault.redact(&job, 0, &sealed, report.clone());
    for report in &reports {
        // Documents print as bytes, in which a text can be read.
        let told = format!("{:?}", with_key(report));
        assert!(
            !told.contains("open sesame") && told.contains("say ******** 123"),
            "{told}"
        );
        let unknown = Vault::without_key().redact(&job, 0, &sealed, report.clone());
        assert!(!format!("{unknown:?}").contains("say "), "{unknown:?}");
    }
    let Report::Success {
        result: Some(found),
        ..
    } = with_key(&reports[2])
    else {
        panic!("it is a success");
    };
    let found = Struct::from_encoded(found.0).to_json().expect("an object");
    let expected = json!({"a": ["say ******** 123", 1.5, null, {"********": true}], "b": {"c": "x ********"}, "d": "clean"});
    assert_eq!(found, expected);
    // What has no secret in it is left as it is, to the byte.
    let clean = Report::Success {
        result: Some(Document(
            Struct::from_json(&json!({"d": "clean"}))
                .expect("an object")
                .encode_to_vec()
                .into(),
        )),
        status_detail: "clean".into(),
    };
    assert_eq!(with_key(&clean), clean);
    assert_eq!(with_key(&Report::Heartbeat), Report::Heartbeat);
}

#[test]
fn many_and_large_secrets_are_searched_in_time_that_goes_by_their_size() {
    let word = |n: usize| format!("{n:0>16}{}", "ab".repeat(500));
    let secrets: BTreeMap<String, String> = (0..64).map(|n| (n.to_string(), word(n))).collect();
    let fields: serde_json::Value = (0..20_000)
        .map(|n| json!({"password": format!("aaaa{n:0>6}")}))
        .collect();
    let (_, taken) = Struct::from_json(&json!({"list": fields}))
        .expect("an object")
        .split(&[])
        .expect("a payload");
    let hidden = Hidden::new(secrets, taken.expect("secrets").to_bytes());
    let text = format!("{} {} {}", "a".repeat(1_000_000), word(63), "aaaa000007");
    let told = redacted(&hidden, &text);
    assert!(
        told.ends_with("******** ********"),
        "{}",
        &told[told.len() - 40..]
    );
}
