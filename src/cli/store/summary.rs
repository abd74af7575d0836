//! What a copy came to, or would: lines for people, or an object of JSON.

use longhaul::{
    domain::wording::count,
    store::copy::{Contents, Copied, Names, Numbers, Records, Standing, Survey},
};
use serde_json::{Value, json};

use super::{Exit, Failure, Format, FormatArgs, Output};

/// What would be done.
pub fn would_copy(
    survey: &Survey,
    names: &Names,
    format: &FormatArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let Survey {
        tenants,
        numbers,
        paused_drivers,
        records,
        has_audit_log,
        standing,
    } = survey;
    let Names { from, to, .. } = names;
    let verb = match standing {
        Standing::Nothing => "copy",
        Standing::Part => "go on copying",
        Standing::Whole => "only verify again what was copied from",
    };
    let mut lines = vec![format!(
        "would {verb} {from} to {to}: {numbers} of {}, and {}",
        count(*tenants, "tenant"),
        count(*paused_drivers, "paused driver")
    )];
    lines.extend(details(numbers));
    lines.extend(known(*records));
    lines.extend(has_audit_log.then(|| "  the audit log".to_owned()));
    let json = json!({
        "dryRun": true,
        "from": from,
        "to": to,
        "resumes": *standing == Standing::Part,
        "wasFinished": *standing == Standing::Whole,
        "tenants": tenants,
        "jobs": jobs(numbers),
        "tasks": tasks(numbers),
        "pausedDrivers": paused_drivers,
        "records": by_kind(*records),
        "auditLog": has_audit_log,
    });
    print(lines, &json, format, out)
}

/// What was done.
pub fn copied(
    copied: &Copied,
    names: &Names,
    format: &FormatArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let Copied { contents, standing } = copied;
    let Contents {
        tenants,
        numbers,
        events,
        requests,
        records,
        audit,
        checksum,
    } = contents;
    let Names { from, to, .. } = names;
    let done = match standing {
        Standing::Nothing | Standing::Part => "copied and verified",
        Standing::Whole => "was copied before, and is verified again",
    };
    let mut lines = vec![format!(
        "{done}: {numbers}, {} and {}",
        count(*events, "event"),
        count(*requests, "request id")
    )];
    lines.extend(details(numbers));
    lines.extend(known(*records));
    if *audit > 0 {
        lines.push(format!("  {} of the audit log", count(*audit, "record")));
    }
    lines.push(format!("checksum of both: {checksum}"));
    let json = json!({
        "from": from,
        "to": to,
        "resumed": *standing == Standing::Part,
        "wasFinished": *standing == Standing::Whole,
        "tenants": tenants,
        "jobs": jobs(numbers),
        "tasks": tasks(numbers),
        "events": events,
        "requestIds": requests,
        "records": by_kind(*records),
        "auditRecords": audit,
        "checksum": checksum.to_string(),
    });
    print(lines, &json, format, out)
}

fn print(
    lines: Vec<String>,
    json: &Value,
    format: &FormatArgs,
    out: &mut Output,
) -> Result<Exit, Failure> {
    match format.output {
        Format::Text => out.lines(lines)?,
        Format::Json => out.line(format_args!("{json:#}"))?,
    }
    Ok(Exit::Success)
}

/// A line for each kind of job.
fn details(numbers: &Numbers) -> impl Iterator<Item = String> {
    let jobs = numbers.jobs.iter();
    jobs.map(|((state, status), number)| {
        format!(
            "  {} {} {}",
            count(*number, "job"),
            state.name(),
            status.name()
        )
    })
}

/// A line for tenants and credentials, if there are any.
fn known(records: Records) -> Option<String> {
    (!records.is_empty()).then(|| format!("  {records}"))
}

fn by_kind(records: Records) -> Value {
    let Records {
        tenants,
        keys,
        data_keys,
    } = records;
    json!({"tenants": tenants, "keys": keys, "dataKeys": data_keys})
}

fn jobs(numbers: &Numbers) -> Vec<Value> {
    let jobs = numbers.jobs.iter();
    jobs.map(|((state, status), count)| {
        json!({"state": state.name(), "status": status.name(), "count": count})
    })
    .collect()
}

fn tasks(numbers: &Numbers) -> Vec<Value> {
    let tasks = numbers.tasks.iter();
    tasks
        .map(|((driver, state), count)| {
            json!({"driver": driver, "state": state.name(), "count": count})
        })
        .collect()
}
