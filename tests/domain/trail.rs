//! The audit log: what is in it, of whom, and whose it is.

use longhaul::domain::{
    Tenant,
    audit::{AuditRecord, Outcome},
    command::{Command, Decision, Refusal},
    registry::{Administration, DEFAULT_TENANT, Quotas},
};

use crate::{
    registering::{actor, key},
    world::*,
};

fn by(tenant: &str, command: Command) -> Command {
    command.by(Some(actor(tenant)))
}

fn create(name: &str) -> Command {
    Command::Administer(Administration::CreateTenant {
        name: Tenant::new(name),
        quotas: Quotas::default(),
    })
}

fn create_key(id: &str, tenant: &str) -> Command {
    Command::Administer(Administration::CreateKey(key(id, tenant).into()))
}

fn revoke(id: &str, within: Option<&str>) -> Command {
    Command::Administer(Administration::RevokeKey {
        id: id.into(),
        within: within.map(Tenant::new),
    })
}

fn pause(driver: &str) -> Command {
    Command::PauseDriver {
        driver: driver.into(),
        reason: "broken".into(),
    }
}

impl World {
    /// What the log says of a command of this tenant's.
    fn logged(&mut self, tenant: &str, command: Command) -> AuditRecord {
        let mut decision = self.run(vec![by(tenant, command)], &[]);
        assert_eq!(decision.changes.audit.len(), 1);
        decision.changes.audit.remove(0)
    }
}

fn told(record: &AuditRecord) -> (&str, &str, &str, Outcome) {
    let AuditRecord {
        tenant,
        action,
        target,
        outcome,
        ..
    } = record;
    (&tenant.0, action, target, *outcome)
}

#[test]
fn what_is_done_is_logged_and_what_nobody_gave_is_not() {
    let mut world = World::new();
    let record = world.logged("operator", pause("d"));
    assert_eq!(
        told(&record),
        ("operator", "PauseDriver", "d", Outcome::Done)
    );
    assert_eq!(record.actor, actor("operator"));
    assert_eq!((record.time, record.detail.as_str()), (world.now, ""));
    let decision = world.run(vec![pause("d"), create("acme")], &[]);
    assert_eq!(decision.changes.audit, []);
    assert!(!decision.changes.is_empty());
}

#[test]
fn what_is_refused_is_logged_with_the_reason() {
    let mut world = World::new();
    world.logged("operator", create("acme"));
    let record = world.logged("operator", create("acme"));
    assert_eq!(
        told(&record),
        ("acme", "CreateTenant", "acme", Outcome::Refused)
    );
    assert_eq!(
        record.detail,
        Refusal::TenantExists(Tenant::new("acme")).to_string()
    );
    assert_eq!(world.store.audit.len(), 2);
    assert_ne!(world.store.audit[0].id, world.store.audit[1].id);
}

#[test]
fn what_was_denied_is_logged_and_nothing_else_is_done() {
    let mut world = World::new();
    let denied = Command::Denied {
        action: "RevokeKey".into(),
        target: "k".into(),
    };
    let decision = world.run(vec![by("acme", denied)], &[]);
    let record = &decision.changes.audit[0];
    assert_eq!(told(record), ("acme", "RevokeKey", "k", Outcome::Denied));
    let Decision { changes, .. } = decision;
    assert!(changes.jobs.is_empty() && changes.records.is_empty() && changes.events.is_empty());
}

/// An audited command is always written, though it changes nothing else.
#[test]
fn what_changes_nothing_is_logged_all_the_same() {
    let mut world = World::new();
    world.run(
        vec![create_key("k", DEFAULT_TENANT), revoke("k", None)],
        &[],
    );
    let decision = world.run(vec![by("operator", revoke("k", None))], &[]);
    assert_eq!(decision.changes.records, []);
    assert!(!decision.changes.is_empty());
    let unlogged = world.run(vec![revoke("k", None)], &[]);
    assert!(unlogged.changes.is_empty());
}

/// So its auditors see what the operator did.
#[test]
fn a_record_is_of_the_tenant_whose_matter_it_was() {
    let mut world = World::new();
    world.run(vec![create("acme"), create_key("k", "acme")], &[]);
    let record = world.logged("operator", create("globex"));
    assert_eq!(
        told(&record),
        ("globex", "CreateTenant", "globex", Outcome::Done)
    );
    let record = world.logged("operator", create_key("l", "acme"));
    assert_eq!(told(&record), ("acme", "CreateKey", "l", Outcome::Done));
    // Whoever may revoke any key does not say whose it is.
    let record = world.logged("operator", revoke("k", None));
    assert_eq!(told(&record), ("acme", "RevokeKey", "k", Outcome::Done));
    let record = world.logged("acme", revoke("l", Some("acme")));
    assert_eq!(told(&record), ("acme", "RevokeKey", "l", Outcome::Done));
    // Of a key that is not there, or is another's, nobody else learns.
    let record = world.logged("globex", revoke("k", Some("globex")));
    assert_eq!(
        told(&record),
        ("globex", "RevokeKey", "k", Outcome::Refused)
    );
    let record = world.logged("operator", revoke("nothing", None));
    assert_eq!(
        told(&record),
        ("operator", "RevokeKey", "nothing", Outcome::Refused)
    );
}

#[test]
fn jobs_are_named_and_nothing_of_what_they_hold_is_said() {
    let mut world = World::new();
    let mut job = new_job([new_task("a", &[])]);
    job.summary = "the canary".into();
    let submit = Command::Submit(world.submission(job));
    let record = world.logged("acme", submit);
    let key = world.store.jobs.keys().next().expect("it is there").clone();
    let id = key.job.to_string();
    assert_eq!(
        told(&record),
        ("acme", "Submit", id.as_str(), Outcome::Done)
    );
    assert!(!format!("{record:?}").contains("canary"));
    let cancel = |reason: &str| Command::Cancel {
        key: key.clone(),
        reason: reason.into(),
    };
    let record = world.logged("acme", cancel("the canary"));
    assert_eq!(
        told(&record),
        ("acme", "Cancel", id.as_str(), Outcome::Done)
    );
    assert!(!format!("{record:?}").contains("canary"));
    let delete = Command::Delete { key: key.clone() };
    let record = world.logged("acme", delete);
    assert_eq!(
        told(&record),
        ("acme", "Delete", id.as_str(), Outcome::Done)
    );
    let record = world.logged("acme", cancel(""));
    assert_eq!(record.outcome, Outcome::Refused);
}

#[test]
fn records_are_in_the_order_of_what_was_done() {
    let mut world = World::new();
    let commands = vec![
        by("operator", create("acme")),
        create("globex"),
        by("operator", create_key("k", "acme")),
        by("acme", revoke("k", Some("acme"))),
        by("acme", create_key("k", "nowhere")),
    ];
    let decision = world.run(commands, &[]);
    let actions = decision.changes.audit.iter().map(|record| &*record.action);
    let expected = ["CreateTenant", "CreateKey", "RevokeKey", "CreateKey"];
    assert_eq!(actions.collect::<Vec<_>>(), expected);
}
