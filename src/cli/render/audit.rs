//! The audit log.

use longhaul::proto::v1::AuditRecord;

use crate::cli::{
    text::{FAINT, one_line, outcome, paint},
    time,
};

/// Characters of the longest name of an outcome.
const OUTCOME_CHARS: usize = 7;
/// Characters of the longest name of a key in the log: `key:` and its id.
const ACTOR_CHARS: usize = 20;
/// Characters of most names of methods.
const ACTION_CHARS: usize = 12;

/// One record. Lines rather than a table, because a log is read as it arrives.
pub fn line(record: &AuditRecord) -> String {
    let at = time::instant(record.time.as_ref()).map_or_else(String::new, time::to_the_millisecond);
    let AuditRecord {
        id: _,
        time: _,
        actor,
        actor_tenant,
        address,
        request_id,
        tenant,
        action,
        target,
        outcome: _,
        detail,
    } = record;
    let (result, style) = outcome(record.outcome());
    let result = paint(style, format_args!("{result:<OUTCOME_CHARS$}"));
    let mut line = format!(
        "{at}  {result}  {:<ACTOR_CHARS$}  {:<ACTION_CHARS$}",
        one_line(actor),
        one_line(action)
    );
    if !target.is_empty() {
        line.push_str(&format!("  {}", one_line(target)));
    }
    if !detail.is_empty() {
        line.push_str(&format!("  {}", one_line(detail)));
    }
    // That somebody acts in its own tenant need not be said.
    let from_elsewhere = Some(actor_tenant).filter(|own| *own != tenant);
    let facts = [
        ("tenant", tenant.as_str()),
        ("actor_tenant", from_elsewhere.map_or("", String::as_str)),
        ("from", address),
        ("request", request_id),
    ];
    for (name, fact) in facts {
        if !fact.is_empty() {
            let fact = one_line(fact);
            line.push_str(&paint(FAINT, format_args!("  {name}={fact}")));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use longhaul::proto::v1::audit_record::Outcome;

    use super::*;
    use crate::cli::render::plain;

    #[test]
    fn a_record_says_who_did_what_to_what() {
        let mut record = AuditRecord {
            id: "1".into(),
            time: Some(prost_types::Timestamp::default()),
            actor: "key:a1".into(),
            actor_tenant: "acme".into(),
            address: "192.0.2.1".into(),
            request_id: "r-1".into(),
            tenant: "acme".into(),
            action: "Cancel".into(),
            target: "j".into(),
            outcome: Outcome::Done.into(),
            detail: String::new(),
        };
        let done = line(&record);
        record.outcome = Outcome::Denied.into();
        record.actor_tenant = "default".into();
        record.detail = "role\nrequired".into();
        assert_eq!(
            plain(vec![done, line(&record)]),
            [
                "1970-01-01T00:00:00.000Z  DONE     key:a1                Cancel        j  tenant=acme  from=192.0.2.1  request=r-1",
                "1970-01-01T00:00:00.000Z  DENIED   key:a1                Cancel        j  role required  tenant=acme  actor_tenant=default  from=192.0.2.1  request=r-1",
            ]
        );
    }
}
