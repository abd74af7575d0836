//! What must be true of tenants, credentials and the audit log after every batch, whatever it was.

use std::collections::HashSet;

use longhaul::domain::{
    audit::Outcome,
    command::{Command, Refusal, Reply},
    registry::{Administration, DEFAULT_TENANT, Entry, RecordKey},
};

use crate::audit::Seen;

/// What is wrong with a batch.
pub fn wrong(seen: &Seen<'_>) -> Vec<String> {
    let mut wrong = records(seen);
    wrong.extend(log(seen));
    wrong
}

fn records(seen: &Seen<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut must = |holds: bool, fault: String| {
        if !holds {
            wrong.push(fault);
        }
    };
    // Commands that were carried out, and what they name.
    let answered = seen.commands.iter().zip(&seen.decision.replies);
    let done: Vec<&Administration> = answered
        .filter(|(_, reply)| reply.is_ok())
        .filter_map(|(command, _)| match command.bare() {
            Command::Administer(act) => Some(act),
            _ => None,
        })
        .collect();
    let named: HashSet<RecordKey> = done.iter().flat_map(|act| act.needs()).collect();
    let mut written = HashSet::new();
    for write in &seen.decision.changes.records {
        let key = write.record.key();
        must(
            named.contains(&key),
            format!("the {key} was changed by nothing"),
        );
        must(
            written.insert(key.clone()),
            format!("the {key} is written twice"),
        );
    }
    for (key, before) in &seen.before.records {
        let Some(after) = seen.after.records.get(key) else {
            must(false, format!("the {key} is gone"));
            continue;
        };
        match (&before.entry, &after.entry) {
            (Entry::Tenant(before), Entry::Tenant(after)) => {
                let is_kept = before.create_time == after.create_time;
                must(is_kept, format!("the {key} was made twice"));
            }
            (Entry::Key(before), Entry::Key(after)) => {
                let is_new = |act: &&Administration| matches!(act, Administration::CreateKey(new) if new.id == before.id);
                let is_kept = before.proof == after.proof
                    && before.roles == after.roles
                    && before.tenant == after.tenant
                    && before.everywhere == after.everywhere
                    && (before.revoke_time.is_none() || before.revoke_time == after.revoke_time)
                    && before.last_used_time <= after.last_used_time;
                must(
                    is_kept || done.iter().any(is_new),
                    format!("the {key} was tampered with"),
                );
            }
            (Entry::DataKey(_), Entry::DataKey(_)) => {}
            (before, after) => must(false, format!("{before:?} became {after:?}")),
        }
    }
    for (key, record) in &seen.after.records {
        if let Entry::Key(entry) = &record.entry {
            let tenant = RecordKey::tenant(&entry.tenant);
            let has_tenant =
                *entry.tenant.0 == *DEFAULT_TENANT || seen.after.records.contains_key(&tenant);
            must(has_tenant, format!("the {key} has no tenant"));
        }
    }
    wrong
}

/// One record for each command that is logged, in their order, and no other.
fn log(seen: &Seen<'_>) -> Vec<String> {
    let logged = &seen.decision.changes.audit;
    let audited = seen.commands.iter().zip(&seen.decision.replies);
    let audited = audited.filter_map(|(command, reply)| match command {
        Command::Audited(audited) => Some((audited, reply)),
        _ => None,
    });
    let audited: Vec<_> = audited.collect();
    let mut wrong = Vec::new();
    if logged.len() != audited.len() {
        let (all, want) = (logged.len(), audited.len());
        wrong.push(format!(
            "the audit log has {all} records of {want} commands"
        ));
    }
    for (record, (audited, reply)) in logged.iter().zip(audited) {
        let expected = match (&audited.command, reply) {
            (Command::Denied { .. }, _) => (Outcome::Denied, String::new()),
            (_, Ok(_)) => (Outcome::Done, String::new()),
            (_, Err(refusal)) => (Outcome::Refused, refusal.to_string()),
        };
        let is_true = record.actor == audited.actor
            && record.time == seen.now
            && (record.outcome, record.detail.clone()) == expected
            && record.tenant
                == owner(&audited.command, reply).unwrap_or(record.actor.tenant.clone());
        if !is_true {
            wrong.push(format!(
                "the audit log says {record:?} of {audited:?}, {reply:?}"
            ));
        }
    }
    wrong
}

/// Whose matter a command is, if it is somebody's.
fn owner(command: &Command, reply: &Result<Reply, Refusal>) -> Option<longhaul::domain::Tenant> {
    match (command, reply) {
        (Command::Cancel { key, .. }, _) => Some(key.tenant.clone()),
        (Command::Administer(_), Ok(Reply::Record(record))) => record.entry.tenant().cloned(),
        (Command::Administer(act), _) => match act {
            Administration::CreateTenant { name, .. }
            | Administration::UpdateTenant { name, .. } => Some(name.clone()),
            Administration::CreateKey(key) => Some(key.tenant.clone()),
            Administration::RevokeKey { within, .. } => within.clone(),
            Administration::NoteUses(_) | Administration::PutDataKeys { .. } => None,
        },
        _ => None,
    }
}
