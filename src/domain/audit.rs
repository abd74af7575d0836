//! What was done by whom, for those who have to know later. Nothing of what jobs hold is in it.

use std::time::Duration;

use uuid::Uuid;

use super::{
    Tenant, Timestamp,
    access::Actor,
    command::{Command, Refusal, Reply},
    registry::Administration,
};

/// How long a record is kept.
pub const AUDIT_LIFE: Duration = Duration::from_secs(400 * 24 * 3600);

/// What became of it. The order is that of the proto enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done, or there was nothing left to do.
    Done,
    /// The state of things forbade it.
    Refused,
    /// The caller may not do it.
    Denied,
}

impl Outcome {
    /// All of them, in the order of the proto enum.
    pub const ALL: [Self; 3] = [Self::Done, Self::Refused, Self::Denied];
}

/// One thing that was done, or that somebody tried to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// Its id: a UUIDv7.
    pub id: Uuid,
    /// When.
    pub time: Timestamp,
    /// Whose matter it was: of the tenant that owns what was changed.
    pub tenant: Tenant,
    /// Who did it.
    pub actor: Actor,
    /// What: the name of the method, such as `PauseDriver`.
    pub action: String,
    /// To what, such as a job's id.
    pub target: String,
    /// What became of it.
    pub outcome: Outcome,
    /// Why not, if it was not done.
    pub detail: String,
}

/// What a command does, and to what.
pub(super) struct Matter {
    tenant: Option<Tenant>,
    action: String,
    target: String,
}

impl Matter {
    pub(super) fn of(command: &Command) -> Self {
        let matter = |tenant: Option<&Tenant>, action: &str, target: String| Self {
            tenant: tenant.cloned(),
            action: action.to_owned(),
            target,
        };
        match command {
            Command::Submit(submission) => {
                matter(Some(&submission.tenant), "Submit", String::new())
            }
            Command::Cancel { key, .. } => matter(Some(&key.tenant), "Cancel", key.job.to_string()),
            Command::Retry { key, .. } => matter(Some(&key.tenant), "Retry", key.job.to_string()),
            Command::Delete { key } => matter(Some(&key.tenant), "Delete", key.job.to_string()),
            Command::PauseDriver { driver, .. } => matter(None, "PauseDriver", driver.to_string()),
            Command::ResumeDriver { driver } => matter(None, "ResumeDriver", driver.to_string()),
            Command::Administer(act) => Self::of_administration(act),
            Command::Denied { action, target } => matter(None, action, target.clone()),
            Command::Audited(inner) => Self::of(&inner.command),
            Command::Report { lease, .. }
            | Command::CancelDelivered { lease }
            | Command::Recall { lease } => {
                matter(Some(&lease.tenant), "Report", lease.job.to_string())
            }
            Command::Sweep { key } | Command::Expire { key } => {
                matter(Some(&key.tenant), "Sweep", key.job.to_string())
            }
        }
    }

    fn of_administration(act: &Administration) -> Self {
        let (tenant, action, target) = match act {
            Administration::CreateTenant { name, .. } => {
                (Some(name), "CreateTenant", name.to_string())
            }
            Administration::UpdateTenant { name, .. } => {
                (Some(name), "UpdateTenant", name.to_string())
            }
            Administration::CreateKey(key) => (Some(&key.tenant), "CreateKey", key.id.to_string()),
            Administration::RevokeKey { id, within } => {
                (within.as_ref(), "RevokeKey", id.to_string())
            }
            Administration::NoteUses(_) => (None, "NoteUses", String::new()),
            Administration::PutDataKeys { .. } => (None, "RotateDataKeys", String::new()),
        };
        Self {
            tenant: tenant.cloned(),
            action: action.to_owned(),
            target,
        }
    }

    /// What the log says of it.
    pub(super) fn record(
        self,
        id: Uuid,
        time: Timestamp,
        actor: Actor,
        was_denied: bool,
        reply: &Result<Reply, Refusal>,
    ) -> AuditRecord {
        let (mut tenant, mut target) = (self.tenant, self.target);
        match reply {
            // Whoever reaches all tenants may not say whose key it is.
            Ok(Reply::Record(record)) => tenant = record.entry.tenant().cloned().or(tenant),
            Ok(Reply::Submitted { job, .. }) if target.is_empty() => target = job.id.to_string(),
            _ => {}
        }
        let (outcome, detail) = match reply {
            _ if was_denied => (Outcome::Denied, String::new()),
            Ok(_) => (Outcome::Done, String::new()),
            Err(refusal) => (Outcome::Refused, refusal.to_string()),
        };
        AuditRecord {
            id,
            time,
            tenant: tenant.unwrap_or_else(|| actor.tenant.clone()),
            actor,
            action: self.action,
            target,
            outcome,
            detail,
        }
    }
}
