//! The folder of a quickstart: its store, its script, and the grid that the script works on. Removed when it goes out of scope.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
};

use crate::cli::exit::Failure;

/// What the worker runs.
const SCRIPT: &str = include_str!("../../../examples/quickstart/create-bucket.sh");
/// What the server makes jobs of.
const ROUTES: &str = include_str!("../../../examples/routes/nse.toml");
/// What it checks first, at the place that the routes name.
const SCHEMA: (&str, &str) = (
    "schemas/nse-bucket.json",
    include_str!("../../../examples/routes/schemas/nse-bucket.json"),
);
/// For the owner alone: the script in it is run.
const MODE: u32 = 0o700;

/// A folder of one's own.
pub struct Workspace(PathBuf);

impl Workspace {
    /// Makes it, with the script in it.
    ///
    /// # Errors
    /// The folder for temporary files can not be written to.
    pub fn new() -> Result<Self, Failure> {
        let name = format!("longhaul-quickstart-{}", uuid::Uuid::new_v4().simple());
        let path = std::env::temp_dir().join(name);
        let failure = |error: io::Error| {
            Failure::local(format_args!("can't write to {}", path.display()), &error)
                .hint("make room there, or name another folder for temporary files in TMPDIR")
        };
        DirBuilder::new()
            .mode(MODE)
            .create(&path)
            .map_err(failure)?;
        let workspace = Self(path.clone());
        fs::write(workspace.script(), SCRIPT).map_err(failure)?;
        fs::create_dir(workspace.grid()).map_err(failure)?;
        let (schema, text) = SCHEMA;
        let schema = workspace.0.join(schema);
        if let Some(folder) = schema.parent() {
            fs::create_dir(folder).map_err(failure)?;
        }
        fs::write(schema, text).map_err(failure)?;
        fs::write(workspace.routes(), ROUTES).map_err(failure)?;
        Ok(workspace)
    }

    /// For the server's store.
    pub fn data_dir(&self) -> PathBuf {
        self.0.join("data")
    }

    /// The file of routes.
    pub fn routes(&self) -> PathBuf {
        self.0.join("nse.toml")
    }

    /// The script on its grid. Through `sh`, since folders for temporary files are often mounted without the right to run what is in them.
    pub fn command(&self) -> Vec<OsString> {
        let mut grid = OsString::from("GRID_DIR=");
        grid.push(self.grid());
        vec!["env".into(), grid, "sh".into(), self.script().into()]
    }

    fn script(&self) -> PathBuf {
        self.0.join("create-bucket.sh")
    }

    fn grid(&self) -> PathBuf {
        self.0.join("grid")
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "can't remove the quickstart's folder");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn it_is_gone_at_the_end() {
        let workspace = Workspace::new().expect("a workspace");
        let path = workspace.0.clone();
        assert!(path.is_dir());
        drop(workspace);
        assert!(!path.exists());
    }

    #[test]
    fn the_script_runs_from_it() {
        let workspace = Workspace::new().expect("a workspace");
        let argv = workspace.command();
        let output = Command::new(&argv[0])
            .args(&argv[1..])
            .stdin(Stdio::null())
            .output()
            .expect("a shell");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains("create-bucket:"), "{complaint}");
        assert_eq!(output.status.code(), Some(1));
    }
}
