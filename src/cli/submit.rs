//! `submit`: a job of one task from flags, or any job from JSON.

mod secrets;

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use jiff::Timestamp;
use longhaul::{
    client::WatchOptions,
    proto::{
        Struct, json,
        v1::{JobSpec, JobTaskSpec, Object, SubmitRequest},
    },
};

use super::{
    connect::{ConnectArgs, required},
    exit::{Exit, Failure},
    output::{Format, Output},
    time::{self, HumanDuration},
    watch,
};
use secrets::SecretFrom;

/// Bytes of JSON that are read: far more than the server's limit of 1 MiB for a job, whatever the spelling.
const MAX_INPUT_BYTES: u64 = 16 * 1024 * 1024;
/// The file name that stands for stdin.
const STDIN: &str = "-";

/// `longhaul submit`
#[derive(Debug, Args)]
#[command(
    override_usage = "longhaul submit [OPTIONS] <FILE>\n       longhaul submit [OPTIONS] --driver <NAME>",
    after_help = "\
Examples:
  longhaul submit --driver storagegrid_ansible --payload '{\"s3_bucket_name\": \"test1234\"}' --wait
  longhaul submit job.json --label team=storage --delay 10m
  longhaul submit --driver backup --secret db=@/run/secrets/db --secret S3_KEY
  echo '{\"tasks\": [{\"driver\": \"a\"}, {\"driver\": \"b\"}]}' | longhaul submit -

Exit codes with --wait: 0 succeeded, 1 failed, 2 wrong input, 3 cancelled, 4 can't connect."
)]
pub struct SubmitArgs {
    /// JSON of a longhaul.v1.JobSpec: a file, or - for stdin
    #[arg(value_name = "FILE", required_unless_present = "driver")]
    file: Option<PathBuf>,
    /// Makes it safe to repeat the command: the same id never stores a second job [default: a random one]
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Watch the job to its end
    #[arg(long)]
    wait: bool,
    /// How to print the job; with --wait, json is one object per change
    #[arg(
        long,
        value_name = "FORMAT",
        env = "LONGHAUL_OUTPUT",
        default_value = "text"
    )]
    output: Format,
    #[command(flatten)]
    task: TaskArgs,
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// The only task of a job that is made of flags.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "A job of one task")]
struct TaskArgs {
    /// Kind of worker that can carry out the task
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    driver: Option<String>,
    /// What the worker gets to work with: a JSON object, or @FILE
    #[arg(long, value_name = "JSON", requires = "driver")]
    payload: Option<String>,
    /// Name of the task
    #[arg(long, value_name = "NAME", requires = "driver")]
    task: Option<String>,
    /// Kind of resource that the task works on
    #[arg(long, value_name = "TYPE", requires = "driver")]
    resource_type: Option<String>,
    /// How many attempts may fail before the task does [default: 1]
    #[arg(long, value_name = "N", requires = "driver")]
    max_attempts: Option<u32>,
}

/// What may also be said of a job from JSON; it replaces what the JSON says.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Any job")]
struct JobArgs {
    /// What the operation does, such as create
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// One line for people
    #[arg(long, value_name = "TEXT")]
    summary: Option<String>,
    /// What the operation is about: type, type/id, or type/id/name
    #[arg(long, value_name = "TYPE/ID/NAME")]
    object: Option<String>,
    /// Label, as often as needed, each key once
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Higher runs first, from -1000 to 1000
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i32>,
    /// Who submits the job
    #[arg(long, value_name = "NAME", env = "LONGHAUL_CREATOR")]
    creator: Option<String>,
    /// Open job that this one is a part of
    #[arg(long, value_name = "JOB")]
    parent: Option<String>,
    /// Do not start before this much time has passed
    #[arg(long, value_name = "TIME")]
    delay: Option<HumanDuration>,
    /// Secret for the worker of the job's only task, as often as needed: NAME=@FILE (- for stdin), NAME=env:VARIABLE, or the name of a variable
    #[arg(long = "secret", value_name = "NAME=SOURCE", value_parser = secrets::secret)]
    secrets: Vec<SecretFrom>,
    /// Field of the payload of the job's only task that is secret, such as spec.db.pin or hosts.*.key; as often as needed
    #[arg(long = "sensitive-field", value_name = "PATH")]
    sensitive_fields: Vec<String>,
}

/// Submits a job, and follows it if asked to.
pub async fn run(args: SubmitArgs, out: &mut Output) -> Result<Exit, Failure> {
    let mut spec = match &args.file {
        Some(path) => from_json(path)?,
        None => JobSpec {
            tasks: vec![args.task.spec()?],
            ..Default::default()
        },
    };
    args.job.apply(&mut spec, time::now())?;

    let server = args.connect.connect().await?;
    let request_id = args
        .request_id
        .unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    let request = SubmitRequest {
        job: Some(spec),
        request_id: request_id.clone(),
    };
    let answer = server.client.submit(request).await;
    let answer = answer.map_err(|error| {
        let unknown = error.is_retryable();
        let failure = server.failure(error);
        if unknown {
            failure.hint(format!(
                "an attempt may have stored the job all the same; the same command with --request-id {request_id} never stores it twice"
            ))
        } else {
            failure
        }
    })?;
    let job = required(answer.job, "job")?;
    if !answer.created {
        out.note("the job was there already, under the same request id");
    }
    match (args.output, args.wait) {
        (Format::Text, _) => out.line(&job.id)?,
        (Format::Json, false) => out.line(json::pretty(&job)?)?,
        (Format::Json, true) => {}
    }
    if args.wait {
        let options = WatchOptions::default();
        return watch::follow(&server, &job.id, options, args.output, out).await;
    }
    if args.output == Format::Text && out.is_terminal() {
        out.note(format_args!("follow it: longhaul watch {}", job.id));
    }
    Ok(Exit::Success)
}

impl TaskArgs {
    fn spec(&self) -> Result<JobTaskSpec, Failure> {
        let Self {
            driver,
            payload,
            task,
            resource_type,
            max_attempts,
        } = self;
        Ok(JobTaskSpec {
            name: task.clone().unwrap_or_default(),
            driver: driver.clone().unwrap_or_default(),
            resource_type: resource_type.clone().unwrap_or_default(),
            max_attempts: max_attempts.unwrap_or_default(),
            request_payload: payload.as_deref().map(self::payload).transpose()?,
            ..Default::default()
        })
    }
}

impl JobArgs {
    fn apply(&self, spec: &mut JobSpec, now: Timestamp) -> Result<(), Failure> {
        let Self {
            action,
            summary,
            object,
            labels,
            priority,
            creator,
            parent,
            delay,
            secrets,
            sensitive_fields,
        } = self;
        let replace = |field: &mut String, value: &Option<String>| {
            if let Some(value) = value {
                field.clone_from(value);
            }
        };
        replace(&mut spec.action, action);
        replace(&mut spec.summary, summary);
        replace(&mut spec.creator, creator);
        replace(&mut spec.parent_job_id, parent);
        if let Some(path) = object {
            spec.object = Some(self::object(path));
        }
        spec.labels.extend(by_key(labels)?);
        if let Some(priority) = priority {
            spec.priority = *priority;
        }
        if let Some(delay) = delay {
            let start = now
                .checked_add(delay.0)
                .map_err(|_| Failure::usage(format!("--delay {delay} goes beyond the calendar")))?;
            spec.schedule_time = Some(time::to_message(start));
        }
        if !secrets.is_empty() || !sensitive_fields.is_empty() {
            let [task] = spec.tasks.as_mut_slice() else {
                return Err(Failure::usage(
                    "--secret and --sensitive-field are for a job of one task; write those of several into the JSON, as `secrets` and `sensitive_fields` of each",
                ));
            };
            task.secrets.extend(secrets::read_all(secrets)?);
            task.sensitive_fields.extend_from_slice(sensitive_fields);
        }
        Ok(())
    }
}

/// `type/id/name`, of which the last parts may be left out.
fn object(path: &str) -> Object {
    let mut parts = path.splitn(3, '/').map(str::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Object {
        r#type: next(),
        id: next(),
        name: next(),
    }
}

/// Labels by key. Two values for one key are a mistake of which only the person knows the right half.
fn by_key(labels: &[(String, String)]) -> Result<HashMap<String, String>, Failure> {
    let mut by_key = HashMap::with_capacity(labels.len());
    for (key, value) in labels {
        if let Some(other) = by_key.insert(key.clone(), value.clone()) {
            return Err(Failure::usage(format!(
                "--label {key} is given more than once: {key}={other} and {key}={value}"
            )));
        }
    }
    Ok(by_key)
}

/// `key=value`; the server knows which keys are allowed.
fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err("write it like team=storage".into()),
    }
}

/// A JSON object, given as it is or as `@FILE`.
fn payload(text: &str) -> Result<Struct, Failure> {
    let (name, text) = match text.strip_prefix('@') {
        Some(path) => (path, read(Path::new(path))?),
        None => ("--payload", text.to_owned()),
    };
    let value = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("{name} is not JSON: {error}")))?;
    Struct::from_json(&value).map_err(|error| Failure::usage(format!("{name} is {error}")))
}

fn from_json(path: &Path) -> Result<JobSpec, Failure> {
    json::to_message(&read(path)?).map_err(|error| {
        Failure::usage(format!("{} is not a job: {error}", source_name(path))).hint(
            "a job is JSON of longhaul.v1.JobSpec: {\"action\": …, \"summary\": …, \"tasks\": [{\"driver\": …, \"requestPayload\": {…}}]}",
        )
    })
}

/// A whole text file, or stdin for `-`.
fn read(path: &Path) -> Result<String, Failure> {
    let failure =
        |error: io::Error| Failure::usage(format!("can't read {}: {error}", source_name(path)));
    let source: Box<dyn Read> = if path.as_os_str() == STDIN {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(failure)?)
    };
    let mut text = String::new();
    source
        .take(MAX_INPUT_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failure)?;
    if text.len() as u64 > MAX_INPUT_BYTES {
        return Err(Failure::usage(format!(
            "{} is larger than {MAX_INPUT_BYTES} bytes, and so larger than any job may be",
            source_name(path)
        )));
    }
    Ok(text)
}

fn source_name(path: &Path) -> String {
    if path.as_os_str() == STDIN {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_may_leave_out_its_last_parts() {
        let parts = |path| {
            let Object { r#type, id, name } = object(path);
            [r#type, id, name]
        };
        assert_eq!(parts("sg_buckets"), ["sg_buckets", "", ""]);
        assert_eq!(
            parts("sg_buckets//test1234"),
            ["sg_buckets", "", "test1234"]
        );
        assert_eq!(parts("volume/7/a/b"), ["volume", "7", "a/b"]);
    }

    #[test]
    fn flags_replace_what_the_json_says() {
        let mut spec: JobSpec = json::to_message(
            r#"{"summary": "old", "labels": {"a": "1", "b": "2"}, "tasks": [{"driver": "d"}]}"#,
        )
        .expect("a job");
        let flags = JobArgs {
            summary: Some("new".into()),
            labels: vec![("b".into(), "3".into())],
            delay: Some("1h".parse().expect("a duration")),
            ..Default::default()
        };
        flags
            .apply(&mut spec, Timestamp::UNIX_EPOCH)
            .expect("a job");
        assert_eq!(spec.summary, "new");
        assert_eq!(spec.labels["a"], "1");
        assert_eq!(spec.labels["b"], "3");
        assert_eq!(spec.schedule_time.map(|time| time.seconds), Some(3_600));
        assert_eq!(spec.tasks[0].driver, "d");
    }

    #[test]
    fn a_label_has_one_value() {
        let labels = |pairs: &[&str]| -> Vec<_> {
            pairs.iter().map(|pair| label(pair).expect(pair)).collect()
        };
        let two = by_key(&labels(&["team=storage", "site=nyc"])).expect("two labels");
        assert_eq!((two["team"].as_str(), two.len()), ("storage", 2));
        for again in ["team=network", "team=storage", "team="] {
            let failure = by_key(&labels(&["team=storage", "site=nyc", again])).expect_err(again);
            assert_eq!(failure.exit(), Exit::Usage);
            assert!(failure.to_string().contains("--label team"), "{failure}");
        }
    }

    #[test]
    fn a_payload_is_an_object() {
        assert!(payload(r#"{"name": "test1234"}"#).is_ok());
        for (text, complaint) in [("{", "--payload is not JSON"), ("[1]", "not a JSON object")] {
            let failure = payload(text).expect_err(text);
            assert_eq!(failure.exit(), Exit::Usage);
            assert!(failure.to_string().contains(complaint), "{failure}");
        }
    }
}
