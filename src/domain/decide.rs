//! The decision function: a batch of commands and the rows that they name in, changes, replies and events out.
//!
//! Invariants, which the property tests hold against it: a terminal job never changes; a revision is one more than the last; an event for each revision;
//! one end for each lease; counters equal a recount.

use std::sync::Arc;

use super::{
    Job, JobId, JobKey, JobState, Status, TaskId, TaskState, Timestamp,
    audit::Matter,
    claim,
    command::{
        Audited, Claim, Command, Context, Decision, Fingerprint, Loaded, Refusal, Reply,
        RequestKey, RequestRecord, Submission,
    },
    event::EventKind,
    lifecycle,
    limits::MAX_DEPTH,
    registry, report,
    secrecy::{HiddenTasks, Secrets},
    task::Task,
    transition::TaskInput,
    working::Working,
};

/// Decides a batch: the commands in their order, then the claims.
pub fn decide(
    commands: Vec<Command>,
    claims: &[Claim],
    mut loaded: Loaded,
    ctx: &mut Context<'_>,
) -> Decision {
    let ready = std::mem::take(&mut loaded.ready);
    let mut working = Working::new(loaded);
    for command in commands {
        let reply = obey(&mut working, ctx, command);
        working.out.replies.push(reply);
    }
    claim::serve(&mut working, ctx, claims, ready);
    working.finish()
}

fn obey(working: &mut Working, ctx: &mut Context<'_>, command: Command) -> Result<Reply, Refusal> {
    match command {
        Command::Submit(submission) => submit(working, ctx, submission, None),
        Command::Cancel { key, reason } => {
            let job = find(working, &key)?;
            if !job.state.is_terminal() && job.cancel.is_none() {
                working.edit(&key, ctx, |edit| lifecycle::cancel(edit, reason));
            }
            Ok(Reply::Job(find(working, &key)?))
        }
        Command::Retry {
            key,
            request_id,
            fingerprint,
        } => retry(working, ctx, &key, request_id, fingerprint),
        Command::Delete { key } => {
            if !find(working, &key)?.state.is_terminal() {
                return Err(Refusal::JobNotEnded(key.job));
            }
            working.remove(&key, ctx);
            Ok(Reply::Done)
        }
        Command::Report {
            lease,
            report,
            reach,
        } => {
            let reach = reach.as_deref();
            report::take(working, ctx, &lease, report, reach).map(Reply::Reported)
        }
        Command::CancelDelivered { lease } => {
            let key = lease.job_key();
            let ordinal = lease.ordinal as usize;
            let waits = working.get(&key).is_some_and(|job| {
                job.is_held(&lease)
                    && job.tasks[ordinal].state == TaskState::Cancelling
                    && job.cancel.as_ref().is_some_and(|c| c.delivered.is_none())
            });
            if waits {
                working.edit(&key, ctx, |edit| report::delivered(edit, ordinal));
            }
            Ok(Reply::Done)
        }
        Command::Recall { lease } => {
            report::recall(working, &ctx.policy, &lease);
            Ok(Reply::Done)
        }
        Command::Sweep { key } => {
            let open = working.get(&key).is_some_and(|j| !j.state.is_terminal());
            if open {
                let chance = ctx.source.chance();
                let hold = ctx.leases_hold_until;
                working.edit(&key, ctx, |edit| report::sweep(edit, hold, chance));
            }
            Ok(Reply::Done)
        }
        Command::Expire { key } => {
            let over = working
                .get(&key)
                .is_some_and(|job| job.expire_time.is_some_and(|t| t <= ctx.now));
            if over {
                working.remove(&key, ctx);
            }
            Ok(Reply::Done)
        }
        Command::PauseDriver { driver, reason } => {
            let since = (ctx.now, reason);
            working.out.changes.drivers.push((driver, Some(since)));
            Ok(Reply::Done)
        }
        Command::ResumeDriver { driver } => {
            working.out.changes.drivers.push((driver, None));
            Ok(Reply::Done)
        }
        Command::Administer(act) => registry::administer(working, ctx.now, act),
        Command::Denied { .. } => Ok(Reply::Done),
        Command::Audited(audited) => {
            let Audited { actor, command } = *audited;
            let matter = Matter::of(&command);
            let was_denied = matches!(command, Command::Denied { .. });
            let reply = obey(working, ctx, command);
            let id = ctx.source.id(ctx.now);
            let record = matter.record(id, ctx.now, actor, was_denied, &reply);
            working.out.changes.audit.push(record);
            reply
        }
    }
}

fn find(working: &Working, key: &JobKey) -> Result<Arc<Job>, Refusal> {
    working
        .get(key)
        .cloned()
        .ok_or(Refusal::JobNotFound(key.job))
}

fn submit(
    working: &mut Working,
    ctx: &mut Context<'_>,
    submission: Submission,
    retry_of: Option<JobId>,
) -> Result<Reply, Refusal> {
    // Before anything is compared: without a key the fingerprint says nothing.
    if !submission.hidden.is_empty() && !ctx.secrecy.can_seal() {
        return Err(Refusal::MasterKeyRequired);
    }
    let request = RequestKey {
        tenant: submission.tenant.clone(),
        id: submission.request_id.clone(),
    };
    // A request id stands for its job for as long as that is kept.
    if let Some(stored) = working.requests.get(&request)
        && let Some(job) = working.get(&stored.key)
    {
        if stored.fingerprint != submission.fingerprint {
            return Err(Refusal::RequestIdReused {
                request_id: request.id,
                job: stored.key.job,
            });
        }
        return Ok(Reply::Submitted {
            job: job.clone(),
            created: false,
        });
    }
    let parent = submission.spec.parent.map(|job| JobKey {
        tenant: submission.tenant.clone(),
        job,
    });
    let depth = match &parent {
        Some(key) => check_parent(working, key)?,
        None => 0,
    };
    let fingerprint = submission.fingerprint;
    let job = new_job(submission, depth, retry_of, ctx)?;
    let id = job.id;
    let key = job.key();
    let job = working.insert(job, ctx);
    if !request.id.is_empty() {
        let record = RequestRecord { key, fingerprint };
        working.requests.insert(request.clone(), record.clone());
        working.out.changes.requests.push((request, record));
    }
    if let Some(parent) = parent {
        working.edit(&parent, ctx, |edit| lifecycle::child_added(edit, id));
    }
    Ok(Reply::Submitted { job, created: true })
}

/// Answers how deep a child of this job is nested.
fn check_parent(working: &Working, key: &JobKey) -> Result<u32, Refusal> {
    let parent = working.get(key).ok_or(Refusal::ParentNotFound(key.job))?;
    if parent.state.is_terminal() || parent.cancel.is_some() {
        return Err(Refusal::ParentEnded(key.job));
    }
    if parent.depth >= MAX_DEPTH {
        return Err(Refusal::TooDeep(key.job));
    }
    Ok(parent.depth + 1)
}

fn new_job(
    submission: Submission,
    depth: u32,
    retry_of: Option<JobId>,
    ctx: &mut Context<'_>,
) -> Result<Job, Refusal> {
    let now: Timestamp = ctx.now;
    let id = JobId(ctx.source.id(now));
    let mut tasks: Vec<Task> = submission
        .tasks
        .into_iter()
        .map(|spec| Task::new(TaskId(ctx.source.id(now)), spec, now))
        .collect();
    if !submission.hidden.is_empty() {
        let key = JobKey {
            tenant: submission.tenant.clone(),
            job: id,
        };
        for (ordinal, hidden) in &submission.hidden {
            let sealed = ctx.secrecy.seal(&key, *ordinal, hidden, now);
            let sealed = sealed.ok_or(Refusal::MasterKeyRequired)?;
            if let Some(task) = tasks.get_mut(*ordinal as usize) {
                task.secrets = Secrets::Sealed(sealed);
            }
        }
    }
    Ok(Job {
        id,
        tenant: submission.tenant,
        spec: Arc::new(submission.spec),
        request_id: submission.request_id,
        depth,
        retry_of,
        state: JobState::Queued,
        status: Status::Normal,
        last_error: String::new(),
        revision: 0,
        tasks,
        children: Default::default(),
        cancel: None,
        timer: None,
        create_time: now,
        start_time: None,
        update_time: now,
        end_time: None,
        expire_time: None,
    })
}

fn retry(
    working: &mut Working,
    ctx: &mut Context<'_>,
    key: &JobKey,
    request_id: String,
    fingerprint: Fingerprint,
) -> Result<Reply, Refusal> {
    let job = find(working, key)?;
    match job.state {
        JobState::Succeeded => Err(Refusal::JobSucceeded(key.job)),
        JobState::Failed | JobState::Cancelled
            if job.tasks.iter().any(|task| task.secrets.were_given()) =>
        {
            Err(Refusal::SecretsErased(key.job))
        }
        JobState::Failed | JobState::Cancelled => {
            let mut spec = (*job.spec).clone();
            spec.schedule_time = None;
            // A repetition of a child belongs to its parent only while that can still take one.
            let open = job
                .parent_key()
                .is_some_and(|parent| check_parent(working, &parent).is_ok());
            spec.parent = spec.parent.filter(|_| open);
            let submission = Submission {
                tenant: key.tenant.clone(),
                request_id,
                fingerprint,
                spec,
                tasks: job.tasks.iter().map(|task| task.spec.clone()).collect(),
                hidden: HiddenTasks::default(),
            };
            submit(working, ctx, submission, Some(key.job))
        }
        JobState::Queued | JobState::Running | JobState::Cancelling => {
            if job.count(TaskState::BackingOff) > 0 {
                working.edit(key, ctx, |edit| {
                    for ordinal in 0..edit.job.tasks.len() {
                        if edit.job.tasks[ordinal].state == TaskState::BackingOff {
                            edit.step(ordinal, TaskInput::Due);
                            edit.make_ready(ordinal, edit.now);
                        }
                    }
                    edit.record(EventKind::RetryRequested, None, String::new());
                });
            }
            Ok(Reply::Submitted {
                job: find(working, key)?,
                created: false,
            })
        }
    }
}
