//! Where the master key comes from.

use std::{env, path::PathBuf};

use longhaul::vault::{MasterKeySource, MasterKeys};

use crate::cli::exit::Failure;

/// The variable that holds keys, and no name of a file: for whoever hands secrets to processes so. It is no setting, because no setting file should have it.
const VARIABLE: &str = "LONGHAUL_MASTER_KEY";

/// The file, or else the variable, or else what the server has of its own.
pub fn master_key(file: PathBuf) -> Result<MasterKeySource, Failure> {
    chosen(file, env::var(VARIABLE).ok())
}

fn chosen(file: PathBuf, variable: Option<String>) -> Result<MasterKeySource, Failure> {
    let variable = variable.filter(|text| !text.trim().is_empty());
    match (file.as_os_str().is_empty(), variable) {
        (true, None) => Ok(MasterKeySource::Own),
        (true, Some(text)) => MasterKeys::parse(&text)
            .map(MasterKeySource::Given)
            .map_err(|error| Failure::usage(format!("{VARIABLE}: {error}"))),
        (false, None) => Ok(MasterKeySource::File(file)),
        (false, Some(_)) => Err(Failure::usage(format!(
            "there are two master keys, in {VARIABLE} and in {}; give one of them",
            file.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_master_key() {
        let key = "07".repeat(32);
        let keys = MasterKeys::of([7; 32]);
        let own = chosen(PathBuf::new(), Some(" \n".into())).expect("none");
        assert_eq!(own, MasterKeySource::Own);
        let given = chosen(PathBuf::new(), Some(key.clone())).expect("a key");
        assert_eq!(given, MasterKeySource::Given(keys));
        let file = chosen("/key".into(), None).expect("a file");
        assert_eq!(file, MasterKeySource::File("/key".into()));
        let both = chosen("/key".into(), Some(key.clone())).expect_err("two");
        let bad = chosen(PathBuf::new(), Some(key[1..].to_owned())).expect_err("half a key");
        for (failure, told) in [(both, "two master keys"), (bad, "line 1 is no key")] {
            let failure = failure.to_string();
            assert!(
                failure.contains(told) && !failure.contains(&key[1..]),
                "{failure}"
            );
        }
    }
}
