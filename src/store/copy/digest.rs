//! A digest of a job with everything that is kept of it, or of what stands beside the jobs: of its rows, which are the same for every store.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{Job, audit::AuditRecord, command::Fingerprint, event::Event, registry::Record},
    store::rows::{
        AuditRow, EventRow, JobSpecRow, JobStateRow, RecordRow, TaskSpecRow, TaskStateRow, sealed,
    },
};

/// SHA-256.
pub(super) type Digest = [u8; 32];

/// The parts of a job, each by its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) job: Digest,
    pub(super) tasks: Digest,
    pub(super) events: Digest,
    pub(super) request: Digest,
}

impl Digests {
    pub(super) fn of(job: &Job, events: EventsDigest, request: Option<&Fingerprint>) -> Self {
        let mut of_request = Hasher::new();
        of_request.optional(request.map(<[u8; 32]>::as_slice));
        Self {
            job: of_job(job),
            tasks: of_tasks(job),
            events: events.0.finish(),
            request: of_request.finish(),
        }
    }

    /// Of all of it.
    pub(super) fn whole(&self) -> Digest {
        let Self {
            job,
            tasks,
            events,
            request,
        } = self;
        let mut whole = Hasher::new();
        for part in [job, tasks, events, request] {
            whole.bytes(part);
        }
        whole.finish()
    }

    /// What these differ in from others.
    pub(super) fn differences(&self, other: &Self) -> Vec<&'static str> {
        let Self {
            job,
            tasks,
            events,
            request,
        } = self;
        let parts = [
            ("the job itself", *job == other.job),
            ("its tasks", *tasks == other.tasks),
            ("its events", *events == other.events),
            ("its request id", *request == other.request),
        ];
        let differ = parts.into_iter().filter(|(_, is_same)| !is_same);
        differ.map(|(part, _)| part).collect()
    }
}

/// Of the events of one job, in their order, as they come.
pub(super) struct EventsDigest(Hasher);

impl EventsDigest {
    pub(super) fn new() -> Self {
        Self(Hasher::new())
    }

    pub(super) fn add(&mut self, event: &Event) {
        let EventRow {
            tenant,
            job,
            revision,
            time,
            kind,
            rest,
        } = EventRow::of(event);
        self.0.bytes(tenant.as_bytes());
        self.0.bytes(&job);
        for number in [revision, time, kind] {
            self.0.number(number);
        }
        self.0.bytes(&rest);
    }
}

/// Of many things together, in whatever order they come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksum([u64; 4]);

impl Checksum {
    pub(super) fn add(&mut self, whole: &Digest) {
        let (lanes, _) = whole.as_chunks::<8>();
        for (sum, lane) in self.0.iter_mut().zip(lanes) {
            *sum = sum.wrapping_add(u64::from_be_bytes(*lane));
        }
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|lane| write!(f, "{lane:016x}"))
    }
}

/// The key, which no two jobs share, and all columns.
fn of_job(job: &Job) -> Digest {
    let mut hasher = Hasher::new();
    hasher.bytes(job.tenant.0.as_bytes());
    hasher.bytes(job.id.0.as_bytes());
    let JobSpecRow {
        action,
        summary,
        object_type,
        object_id,
        object_name,
        labels,
        priority,
        creator,
        parent,
        create_time,
        spec,
    } = JobSpecRow::of(job);
    for text in [&action, &summary, &creator] {
        hasher.bytes(text.as_bytes());
    }
    for text in [&object_type, &object_id, &object_name] {
        hasher.optional(text.as_deref().map(str::as_bytes));
    }
    hasher.number(i64::try_from(labels.len()).unwrap_or(i64::MAX));
    for (key, value) in labels.iter() {
        hasher.bytes(key.as_bytes());
        hasher.bytes(value.as_bytes());
    }
    hasher.number(priority);
    hasher.optional(parent.as_ref().map(<[u8; 16]>::as_slice));
    hasher.number(create_time);
    hasher.bytes(&spec);
    let JobStateRow {
        state,
        status,
        revision,
        timer,
        start_time,
        update_time,
        end_time,
        expire_time,
        rest,
    } = JobStateRow::of(job);
    for number in [state, status, revision, update_time] {
        hasher.number(number);
    }
    for time in [timer, start_time, end_time, expire_time] {
        hasher.optional(time.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
    }
    hasher.bytes(&rest);
    hasher.finish()
}

fn of_tasks(job: &Job) -> Digest {
    let mut hasher = Hasher::new();
    for task in &job.tasks {
        let TaskSpecRow { driver, spec } = TaskSpecRow::of(task);
        let TaskStateRow { ready_time, rest } = TaskStateRow::of(task);
        hasher.bytes(driver.as_bytes());
        hasher.bytes(&spec);
        let ready_time = ready_time.map(i64::to_be_bytes);
        hasher.optional(ready_time.as_ref().map(<[u8; 8]>::as_slice));
        hasher.bytes(&rest);
        for document in [&task.spec.request_payload, &task.result] {
            hasher.optional(document.as_ref().map(|document| document.0.as_ref()));
        }
        // Of a task without secrets it is what it was before there were any.
        if let Some(sealed) = sealed(&task.secrets) {
            hasher.bytes(b"secrets");
            hasher.bytes(sealed);
        }
    }
    hasher.finish()
}

/// What is known of a tenant, a credential or a data key.
pub(super) fn of_record(record: &Record) -> Digest {
    let RecordRow {
        kind,
        id,
        tenant,
        revision,
        body,
    } = RecordRow::of(record);
    let mut hasher = Hasher::new();
    // Nothing else begins so.
    hasher.bytes(b"record");
    hasher.number(kind);
    hasher.bytes(id.as_bytes());
    hasher.bytes(tenant.as_bytes());
    hasher.number(revision);
    hasher.bytes(&body);
    hasher.finish()
}

/// A record of the audit log.
pub(super) fn of_audit(record: &AuditRecord) -> Digest {
    let AuditRow {
        id,
        time,
        tenant,
        actor,
        actor_tenant,
        address,
        request_id,
        action,
        target,
        outcome,
        detail,
    } = AuditRow::of(record);
    let mut hasher = Hasher::new();
    hasher.bytes(b"audit");
    hasher.bytes(&id);
    hasher.number(time);
    let of_actor = [&actor, &actor_tenant, &address, &request_id];
    for text in [&tenant, &action, &target, &detail]
        .into_iter()
        .chain(of_actor)
    {
        hasher.bytes(text.as_bytes());
    }
    hasher.number(outcome);
    hasher.finish()
}

/// Of values none of which can be mistaken for the beginning of the next.
struct Hasher(Context);

impl Hasher {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn number(&mut self, number: i64) {
        self.0.update(&number.to_be_bytes());
    }

    fn optional(&mut self, bytes: Option<&[u8]>) {
        self.0.update(&[u8::from(bytes.is_some())]);
        if let Some(bytes) = bytes {
            self.bytes(bytes);
        }
    }

    fn finish(self) -> Digest {
        let mut digest = Digest::default();
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}
