//! The process that owns a server, seen from the tests: see `guard.sh`.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use super::programs;

/// Ends the server and removes its folder when it is dropped, or when the process of the tests ends, however it does.
pub struct Guard {
    child: Child,
    // `None` only while it is dropped.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Guard {
    /// Starts it. It makes the folder, as the server's user.
    pub fn start(folder: &Path, programs: &Path) -> Self {
        let mut shell = programs::shell();
        shell
            .args(["-c", include_str!("guard.sh"), "guard"])
            .args([folder, programs])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Out of reach of a Ctrl-C, and of whoever kills the group of the tests.
            .process_group(0);
        let mut child = shell
            .spawn()
            .unwrap_or_else(|error| panic!("can't run {:?}: {error}", shell.get_program()));
        let commands = child.stdin.take();
        let answers = child.stdout.take().expect("it was asked for above");
        let mut guard = Self {
            child,
            commands,
            answers: BufReader::new(answers),
        };
        assert!(
            guard.answer() == "ok",
            "no {} for PostgreSQL: as root, tests need the user `postgres` of Debian's package, and a TMPDIR that it may use",
            folder.display()
        );
        guard
    }

    /// Has it do something; whether that went well.
    pub fn did(&mut self, command: &str) -> bool {
        let commands = self.commands.as_mut().expect("it is not being dropped");
        writeln!(commands, "{command}").expect("the guard lives");
        match self.answer().as_str() {
            "ok" => true,
            "failed" => false,
            other => panic!("the guard of PostgreSQL ended at {command:?}: {other:?}"),
        }
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a line of ASCII");
        line.trim_end().to_owned()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.commands = None;
        // There is nobody to tell.
        let _ = self.child.wait();
    }
}
