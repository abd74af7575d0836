//! `quickstart`: a server, a worker and a job, all real, on this machine, gone without a trace at the end.

mod call;
mod workspace;

use std::{net::Ipv4Addr, time::Duration};

use clap::Args;
use longhaul::{
    client::{Client, WatchOptions},
    server::{self, RunningServer, ServeSettings, Storage},
    worker::{Worker, command::CommandHandler},
};
use tokio_util::sync::CancellationToken;

use self::workspace::Workspace;
use super::{
    connect::Server,
    exit::{Exit, Failure},
    logging::{LogArgs, LogLevel},
    output::{Format, Output},
    signals::Signals,
    text::{FAINT, STRONG, paint},
    watch,
};

/// A job to be typed.
const JOB: &str = include_str!("../../examples/quickstart/job.json");
/// The driver of its task.
const DRIVER: &str = "storagegrid_ansible";
/// For another task of it, to be typed.
const PAYLOAD: &str = r#"{"s3_bucket_name": "another", "grid_account_id": "1"}"#;
/// How long open calls have at the end. Short: nothing of this server is worth waiting for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// `longhaul quickstart`
#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// End with the job, its outcome as the exit code, instead of serving on
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    log: LogArgs,
}

/// Shows a job from its submission to its end, and then serves on.
pub async fn run(args: QuickstartArgs, out: &mut Output) -> Result<Exit, Failure> {
    args.log.start(LogLevel::quiet());
    let mut signals = Signals::new()?;
    let workspace = Workspace::new()?;
    let mut server = server::start(ServeSettings {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        storage: Storage::Embedded(workspace.data_dir()),
        drain_timeout: DRAIN_TIMEOUT,
        routes: Some(workspace.routes()),
        ..Default::default()
    })
    .await
    .map_err(|error| Failure::local("can't serve", &error))?;

    let address = server.local_addr().to_string();
    let result = tokio::select! {
        result = present(&address, &workspace, args.once, &mut signals, out) => result,
        failure = background(&address, &workspace, &mut server) => Err(failure),
    };
    tokio::select! {
        drained = server.drain() => drained
            .map_err(|error| Failure::local("the server did not stop cleanly", &error))?,
        _ = signals.next() => {}
    }
    result
}

/// What goes on beside the presentation: ends only if the server or the worker fails.
async fn background(address: &str, workspace: &Workspace, server: &mut RunningServer) -> Failure {
    tokio::select! {
        error = server.failed() => Failure::local("the server stopped", &error),
        failure = work(address, workspace) => failure,
    }
}

/// A worker that runs the script for each task. Its end is that of the program, which takes a running script with it.
async fn work(address: &str, workspace: &Workspace) -> Failure {
    let never = CancellationToken::new();
    let worked = async {
        let handler = CommandHandler::new(workspace.command())?;
        let worker = Worker::builder(Client::connect_lazy(address)?)
            .name("quickstart")
            .driver(DRIVER, handler)
            .build()?;
        anyhow::Ok(worker.run(never).await?)
    };
    match worked.await {
        Ok(()) => Failure::new(Exit::Failed, "the worker ended"),
        Err(error) => Failure::local("the worker can't work", error.as_ref()),
    }
}

/// What a person sees: the example from submission to end, and then what to try.
async fn present(
    address: &str,
    workspace: &Workspace,
    once: bool,
    signals: &mut Signals,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let (job_id, exit) = tokio::select! {
        shown = example(address, workspace, out) => shown?,
        signal = signals.next() => {
            return Err(Failure::new(Exit::Failed, format!("ended by {signal} before the job did")));
        }
    };
    if !once {
        out.line("")?;
        out.lines(suggestions(address, &job_id)?)?;
        signals.next().await;
    }
    Ok(exit)
}

/// Submits the job and follows it to its end.
async fn example(
    address: &str,
    workspace: &Workspace,
    out: &mut Output,
) -> Result<(String, Exit), Failure> {
    let endpoint = format!("http://{address}");
    let client = Client::connect(&endpoint)
        .await
        .map_err(|error| Failure::from_client(&error, &endpoint))?;
    let server = Server::new(client, &endpoint);
    let mut step = |name: &str, what: &str| {
        out.line(format_args!(
            "{}{what}",
            paint(FAINT, format_args!("{name:<8}"))
        ))
    };
    step(
        "server",
        &format!("{endpoint}, data in {}", workspace.data_dir().display()),
    )?;
    step(
        "worker",
        &format!("runs create-bucket.sh for tasks of driver {DRIVER}"),
    )?;

    step("call", &format!("POST {} {}", call::PATH, call::BODY))?;
    let accepted = call::create_bucket(address)
        .await
        .map_err(|error| Failure::local("the server did not accept the call", error.as_ref()))?;
    let call::Accepted {
        status,
        message,
        job_id,
        summary,
    } = accepted;
    step("answer", &format!("{} {message}", status.as_u16()))?;
    step("job", &format!("{job_id}, {summary}"))?;
    out.line("")?;

    let options = WatchOptions::default();
    let exit = watch::follow(&server, &job_id, options, Format::Text, out).await?;
    Ok((job_id, exit))
}

/// Commands to try, ready to be pasted.
fn suggestions(address: &str, job_id: &str) -> Result<Vec<String>, Failure> {
    let program = std::env::args().next().unwrap_or_else(|| "longhaul".into());
    let cli = |command: &str| format!("  {program} {command} --endpoint http://{address}");
    let grpc = |method: &str, request: &str| {
        format!("  grpcurl -plaintext -d '{request}' {address} longhaul.v1.JobService/{method}")
    };
    let id = format!("{{\"job_id\": \"{job_id}\"}}");
    let spec: serde_json::Value = serde_json::from_str(JOB)
        .map_err(|error| Failure::local("the example is not JSON", &error))?;
    Ok(vec![
        paint(
            STRONG,
            "The server keeps running until Ctrl-C. In another terminal:",
        ),
        cli(&format!("get {job_id}")),
        cli(&format!("events {job_id}")),
        cli("list --filter 'state = SUCCEEDED'"),
        cli(&format!(
            "submit --driver {DRIVER} --payload '{PAYLOAD}' --wait"
        )),
        String::new(),
        paint(
            STRONG,
            "With curl, in the words of the native API and of NetApp Service Engine:",
        ),
        format!("  curl -N -H 'accept: text/event-stream' http://{address}/v1/jobs/{job_id}"),
        format!("  curl http://{address}/v2.1/jobs/{job_id}"),
        format!(
            "  curl -H 'content-type: application/json' -d '{}' http://{address}{}",
            call::BODY,
            call::PATH
        ),
        format!("  and in a browser: http://{address}/docs/"),
        String::new(),
        paint(STRONG, "Without any stubs, as reflection is on:"),
        format!("  grpcurl -plaintext {address} list"),
        format!("  grpcurl -plaintext {address} describe longhaul.v1.JobService"),
        grpc("Get", &id),
        grpc("WatchJob", &id),
        grpc("Submit", &format!("{{\"job\": {spec}}}")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_job_for_the_worker() {
        let spec: longhaul::proto::v1::JobSpec =
            longhaul::proto::json::to_message(JOB).expect("a job");
        assert!(spec.tasks.iter().all(|task| task.driver == DRIVER));
    }

    #[test]
    fn suggestions_can_be_pasted() {
        let lines = suggestions("127.0.0.1:1", "0197").expect("suggestions");
        let submit = lines.last().expect("the last one submits");
        let quoted = submit.split('\'').nth(1).expect("a quoted request");
        let request: serde_json::Value = serde_json::from_str(quoted).expect("JSON");
        assert_eq!(request["job"]["tasks"][0]["driver"], DRIVER);
        assert!(
            lines
                .iter()
                .any(|line| line.ends_with("get 0197 --endpoint http://127.0.0.1:1"))
        );
    }
}
