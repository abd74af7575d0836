//! Whether there is a program to run, found out before the first task is taken: a worker that can not start its command would fail every task of its
//! drivers.

use std::{
    env,
    ffi::OsStr,
    fs, io,
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
};

use super::UnusableCommand;

/// Any of the execute bits: which of them counts for us, only the system knows.
const EXECUTABLE: u32 = 0o111;

/// Looks for a program as the system will: by its path if there is a slash in its name, else in the directories of `PATH`.
pub(super) fn check(program: &OsStr) -> Result<(), UnusableCommand> {
    let has_path = program.as_bytes().contains(&b'/');
    let name = || program.to_string_lossy().into_owned();
    if has_path {
        return match is_executable(Path::new(program)) {
            Ok(true) => Ok(()),
            Ok(false) => Err(UnusableCommand::NotExecutable(name())),
            Err(source) => Err(UnusableCommand::NotThere {
                program: name(),
                source,
            }),
        };
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let found =
        env::split_paths(&path).any(|dir| matches!(is_executable(&dir.join(program)), Ok(true)));
    if found {
        Ok(())
    } else {
        Err(UnusableCommand::NotInPath(name()))
    }
}

fn is_executable(path: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(path)?;
    Ok(metadata.is_file() && metadata.permissions().mode() & EXECUTABLE != 0)
}
