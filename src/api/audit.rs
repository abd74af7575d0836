//! The audit log.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::time::MissedTickBehavior;

use super::{
    Api, Caller, Fault,
    fields::{Fields, Place, at_most},
    render,
};
use crate::{
    domain::{Tenant, access::Role, audit::AuditRecord, limits::MAX_PAGE},
    engine::Engine,
    proto::v1,
    store::{AuditPosition, AuditQuery},
};

/// How often those who follow are told what is new.
const LOOK: Duration = Duration::from_secs(1);
/// How long a transaction may take: what it writes bears the time of its beginning, and so may stand before what was told already.
const SETTLING: Duration = Duration::from_secs(60);
/// Looks without anything new after which it is said that there is nothing.
const SILENT_LOOKS: u32 = 14;

impl Api {
    /// Tells the log that a caller may not do what it asked for, for this reason.
    pub(super) fn denied(
        &self,
        caller: &Caller,
        action: &str,
        target: &str,
        fault: Fault,
    ) -> Fault {
        let denials = self.authenticator.denials();
        denials.note(caller.actor(), action, target);
        fault
    }

    /// `ListAudit`.
    pub(crate) async fn list_audit(
        &self,
        caller: &Caller,
        request: v1::ListAuditRequest,
    ) -> Result<v1::ListAuditResponse, Fault> {
        let v1::ListAuditRequest {
            tenant,
            page_size,
            page_token,
        } = request;
        let mut fields = Fields::default();
        let tenant = fields.reached(&tenant, caller.holder.principal.reach(Role::Audit))?;
        fields.check()?;
        let place = Place {
            engine: &self.engine,
            purpose: b"audit",
            tenant: tenant.as_ref(),
        };
        let (limit, after) = place.read(page_size, &page_token)?;
        let query = AuditQuery {
            tenant: tenant.clone(),
            descending: true,
            after,
            limit: limit + 1,
        };
        let mut records = self.engine.audit(query).await?;
        let next_page_token = place.next(&mut records, limit, AuditPosition::of);
        Ok(v1::ListAuditResponse {
            records: records.into_iter().map(shown).collect(),
            next_page_token,
        })
    }

    /// `WatchAudit`.
    pub(crate) async fn watch_audit(
        &self,
        caller: &Caller,
        request: v1::WatchAuditRequest,
    ) -> Result<BoxStream<'static, Result<v1::WatchAuditResponse, Fault>>, Fault> {
        let v1::WatchAuditRequest { tenant, newest } = request;
        let mut fields = Fields::default();
        let tenant = fields.reached(&tenant, caller.holder.principal.reach(Role::Audit))?;
        let newest = usize::try_from(newest).unwrap_or(usize::MAX);
        if newest > MAX_PAGE {
            fields.bad(
                "newest",
                at_most(u32::try_from(MAX_PAGE).unwrap_or(u32::MAX)),
            );
        }
        fields.check()?;
        let held = caller.holder.allowance.watch()?;
        let (follow, first) = Follow::begin(self.engine.clone(), tenant, newest).await?;
        let first = stream::once(async move { Ok(message(first)) });
        let rest = stream::unfold(follow, |mut follow| async move {
            Some((follow.next().await.map(message), follow))
        });
        // What ends in an error ends.
        let rest = rest.scan(false, |failed, item| {
            let was_over = std::mem::replace(failed, item.is_err());
            std::future::ready((!was_over).then_some(item))
        });
        // It is one of those who watch for as long as it is there.
        let records = first.chain(rest).inspect(move |_| {
            let _ = &held;
        });
        Ok(records.boxed())
    }
}

/// Reads the log again and again. Several nodes write it, so what is new may stand before what was told: it is told by ids.
struct Follow {
    engine: Engine,
    tenant: Option<Tenant>,
    looks: tokio::time::Interval,
    /// What was told and may be met again, in the order of the log.
    told: BTreeSet<AuditPosition>,
    /// From where on the log is read.
    from: AuditPosition,
    silent: u32,
}

impl Follow {
    async fn begin(
        engine: Engine,
        tenant: Option<Tenant>,
        newest: usize,
    ) -> Result<(Self, Vec<AuditRecord>), Fault> {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let start = AuditPosition {
            time: engine.now(),
            id: uuid::Uuid::max(),
        };
        let query = AuditQuery {
            tenant: tenant.clone(),
            descending: true,
            after: None,
            limit: newest.max(MAX_PAGE),
        };
        // More than is told: what is older than the oldest of these settled long ago, or was not asked for.
        let mut all: VecDeque<AuditRecord> = engine.audit(query).await?.into();
        all.make_contiguous().reverse();
        let told = all.iter().map(AuditPosition::of).collect();
        let surplus = all.len().saturating_sub(newest);
        let follow = Self {
            from: AuditPosition {
                time: start.time.before(SETTLING),
                id: uuid::Uuid::nil(),
            },
            engine,
            tenant,
            looks,
            told,
            silent: 0,
        };
        Ok((follow, all.into_iter().skip(surplus).collect()))
    }

    /// What is new, or nothing after a while.
    async fn next(&mut self) -> Result<Vec<AuditRecord>, Fault> {
        loop {
            self.looks.tick().await;
            if self.engine.is_draining() {
                return Err(Fault::draining());
            }
            let new = self.look().await?;
            self.silent = if new.is_empty() { self.silent + 1 } else { 0 };
            if !new.is_empty() || self.silent >= SILENT_LOOKS {
                self.silent = 0;
                return Ok(new);
            }
        }
    }

    async fn look(&mut self) -> Result<Vec<AuditRecord>, Fault> {
        let oldest = self.engine.now().before(SETTLING);
        if self.from.time < oldest {
            self.from.time = oldest;
            self.told = self.told.split_off(&self.from);
        }
        let mut new = Vec::new();
        let mut after = self.from;
        loop {
            let query = AuditQuery {
                tenant: self.tenant.clone(),
                descending: false,
                after: Some(after),
                limit: MAX_PAGE,
            };
            let page = self.engine.audit(query).await?;
            let is_last = page.len() < MAX_PAGE;
            for record in page {
                after = AuditPosition::of(&record);
                if self.told.insert(after) {
                    new.push(record);
                }
            }
            if is_last || !new.is_empty() {
                return Ok(new);
            }
        }
    }
}

fn message(records: Vec<AuditRecord>) -> v1::WatchAuditResponse {
    v1::WatchAuditResponse {
        records: records.into_iter().map(shown).collect(),
    }
}

fn shown(record: AuditRecord) -> v1::AuditRecord {
    let AuditRecord {
        id,
        time,
        tenant,
        actor,
        action,
        target,
        outcome,
        detail,
    } = record;
    v1::AuditRecord {
        id: id.to_string(),
        time: Some(render::time(time)),
        actor: actor.name.to_string(),
        actor_tenant: actor.tenant.to_string(),
        address: actor.address,
        request_id: actor.request_id,
        tenant: tenant.to_string(),
        action,
        target,
        outcome: outcome as i32 + 1,
        detail,
    }
}
