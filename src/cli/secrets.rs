//! `secrets rotate`: another key for what is sealed from now on.

use clap::{Args, Subcommand};
use longhaul::proto::v1::RotateDataKeysRequest;

use super::{
    connect::ConnectArgs,
    exit::{Exit, Failure},
    output::{FormatArgs, Output},
    time::{instant, to_the_second},
};

/// `longhaul secrets`
#[derive(Debug, Subcommand)]
pub enum SecretsCommand {
    /// Seal secrets and tokens with a new key, and wrap all such keys with the current master key
    Rotate(RotateArgs),
}

/// `longhaul secrets rotate`
#[derive(Debug, Args)]
pub struct RotateArgs {
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Changes keys.
pub async fn run(command: SecretsCommand, out: &mut Output) -> Result<Exit, Failure> {
    let SecretsCommand::Rotate(RotateArgs { format, connect }) = command;
    let server = connect.connect().await?;
    let request = RotateDataKeysRequest {};
    let answer = server.answer(server.client.admin().rotate_data_keys(request).await)?;
    let from = instant(answer.active_from_time.as_ref());
    let done = format!(
        "data key {} seals from {} on; those before it open what they sealed",
        answer.number,
        from.map(to_the_second).unwrap_or_default()
    );
    out.answer(&format, &answer, [done])
}
