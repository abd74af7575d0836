//! The way out: stdout for data, stderr for talk. Nothing else in the program writes to either, except the log and the live view.
//!
//! Colours are always written and taken out again where they have no place: outside a terminal, or with `NO_COLOR` set.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use anstream::{AutoStream, ColorChoice};

use longhaul::proto::json::{self, ApiMessage};

use super::exit::{Exit, Failure};

/// How a command prints its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines and tables for people.
    #[default]
    #[value(alias = "table")]
    Text,
    /// JSON as protobuf defines it; one object per line where there are many.
    Json,
}

/// The flag of every command that prints one answer.
#[derive(Debug, clap::Args)]
pub struct FormatArgs {
    /// How to print the answer
    #[arg(
        long,
        value_name = "FORMAT",
        env = "LONGHAUL_OUTPUT",
        default_value = "text"
    )]
    pub output: Format,
}

/// The program's stdout and stderr.
pub struct Output {
    stdout: AutoStream<io::Stdout>,
    stderr: AutoStream<io::Stderr>,
}

impl Output {
    /// Takes hold of both.
    pub fn new() -> Self {
        Self {
            stdout: AutoStream::auto(io::stdout()),
            stderr: AutoStream::auto(io::stderr()),
        }
    }

    /// Whether a person sees stdout as it is written.
    pub fn is_terminal(&self) -> bool {
        io::stdout().is_terminal()
    }

    /// Whether colours have a place on stdout.
    pub fn has_colours(&self) -> bool {
        AutoStream::choice(&io::stdout()) != ColorChoice::Never
    }

    /// A line of data, there as soon as this returns.
    ///
    /// # Errors
    /// As [`Failure::from`] for I/O errors says.
    pub fn line(&mut self, line: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.stdout, "{line}")?;
        Ok(self.stdout.flush()?)
    }

    /// Lines of data.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn lines<L: fmt::Display>(
        &mut self,
        lines: impl IntoIterator<Item = L>,
    ) -> Result<(), Failure> {
        for line in lines {
            writeln!(self.stdout, "{line}")?;
        }
        Ok(self.stdout.flush()?)
    }

    /// An answer of the server: as lines for people, or all of it as JSON.
    ///
    /// # Errors
    /// As [`Output::line`], or it has no JSON form.
    pub fn answer<M: ApiMessage, L: fmt::Display>(
        &mut self,
        format: &FormatArgs,
        answer: &M,
        lines: impl IntoIterator<Item = L>,
    ) -> Result<Exit, Failure> {
        match format.output {
            Format::Text => self.lines(lines)?,
            Format::Json => self.line(json::pretty(answer)?)?,
        }
        Ok(Exit::Success)
    }

    /// An answer that holds no data: what was done, for people, or the empty answer as JSON.
    ///
    /// # Errors
    /// As [`Output::answer`].
    pub fn done<M: ApiMessage>(
        &mut self,
        format: &FormatArgs,
        answer: &M,
        what: impl fmt::Display,
    ) -> Result<Exit, Failure> {
        match format.output {
            Format::Text => self.note(what),
            Format::Json => self.line(json::pretty(answer)?)?,
        }
        Ok(Exit::Success)
    }

    /// Bytes as they are.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout.write_all(bytes)?;
        Ok(self.stdout.flush()?)
    }

    /// Says something to the person at the terminal. If nobody can hear it, that is no reason to stop.
    pub fn note(&mut self, line: impl fmt::Display) {
        let _unheard = writeln!(self.stderr, "{line}");
    }
}
