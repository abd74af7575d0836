//! The log: on stderr, as text for people or JSON for collectors.

use std::{
    fmt,
    io::{self, IsTerminal},
    str::FromStr,
};

use clap::Args;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, util::SubscriberInitExt};

/// Libraries that tell of their every step; the level that was asked for may still override this by name.
const LESS_TALK: &str = "refinery_core=warn,tokio_postgres=warn";

/// Which events are logged: a level, or the directives of `tracing_subscriber::EnvFilter`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogLevel(String);

impl Default for LogLevel {
    fn default() -> Self {
        Self("info".into())
    }
}

impl LogLevel {
    /// Only what needs attention: for commands whose talk is not a log.
    pub fn quiet() -> Self {
        Self("warn".into())
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match EnvFilter::try_new(text) {
            Ok(_) if !text.is_empty() => Ok(Self(text.into())),
            _ => Err(format!(
                "'{text}' is not a log level; write error, warn, info, debug or trace, or for one module longhaul::engine=debug"
            )),
        }
    }
}

impl TryFrom<String> for LogLevel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LogLevel> for String {
    fn from(level: LogLevel) -> Self {
        level.0
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How events are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object per line.
    Json,
}

/// The log flags of commands without a settings file.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// What to log: error, warn, info, debug, trace, or directives such as longhaul::client=debug
    #[arg(long, value_name = "LEVEL", env = "LONGHAUL_LOG")]
    log_level: Option<LogLevel>,
    /// How to log
    #[arg(
        long,
        value_name = "FORMAT",
        env = "LONGHAUL_LOG_FORMAT",
        default_value = "text"
    )]
    log_format: LogFormat,
}

impl LogArgs {
    /// Starts the log, at this level if the person did not choose one.
    pub fn start(&self, level: LogLevel) {
        start(self.log_level.as_ref().unwrap_or(&level), self.log_format);
    }
}

/// Starts the log. Once per process: a second start changes nothing.
pub fn start(level: &LogLevel, format: LogFormat) {
    let colours = io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!("{LESS_TALK},{level}")))
        .with_writer(io::stderr)
        .with_ansi(colours);
    let _already_started = match format {
        LogFormat::Text => log.finish().try_init(),
        LogFormat::Json => log.json().flatten_event(true).finish().try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_accepted_and_nonsense_is_not() {
        assert!("debug".parse::<LogLevel>().is_ok());
        assert!("warn,longhaul::engine=trace".parse::<LogLevel>().is_ok());
        for nonsense in ["", "longhaul=loud"] {
            let error = nonsense.parse::<LogLevel>().expect_err(nonsense);
            assert!(error.contains("not a log level"), "{error}");
        }
    }
}
