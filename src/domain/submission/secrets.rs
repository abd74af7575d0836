//! The secrets of a task: how many, under which names, and how large. No description repeats a value.

use super::{Check, shown};
use crate::domain::{limits::*, secrecy::Hidden, wording::sentence};

pub(super) fn check(check: &mut Check<'_>, i: u32, hidden: &Hidden) {
    let secrets = hidden.secrets();
    let all = format!("tasks[{i}].secrets");
    if secrets.len() > MAX_SECRETS {
        check.bad(
            &all,
            sentence!(
                "at-most-allowed",
                "at most {most} are allowed",
                most = MAX_SECRETS
            ),
        );
    }
    let bytes: usize = secrets.values().map(String::len).sum();
    if bytes > MAX_SECRETS_BYTES {
        check.bad(
            &all,
            sentence!(
                "secrets-too-large",
                "have {bytes} bytes together; at most {most} are allowed",
                bytes,
                most = MAX_SECRETS_BYTES
            ),
        );
    }
    for (name, value) in secrets.iter().take(MAX_SECRETS) {
        let field = format!("{all}[{:?}]", shown(name));
        let fits = !name.is_empty()
            && name.len() <= MAX_SECRET_NAME_BYTES
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !fits {
            check.bad(
                &field,
                sentence!(
                    "secret-name",
                    "the name of a secret is 1 to {most} characters of [A-Za-z0-9_.-]",
                    most = MAX_SECRET_NAME_BYTES
                ),
            );
        }
        if value.len() > MAX_SECRET_BYTES {
            check.bad(
                &field,
                sentence!(
                    "at-most-bytes",
                    "must be at most {most} bytes",
                    most = MAX_SECRET_BYTES
                ),
            );
        }
    }
}
