//! Two stores side by side, job by job in the order of keys: what differs, and what each of them holds.

use std::{cmp::Ordering, fmt};

use super::{
    contents::{Contents, Numbers},
    reading::Seen,
};
use crate::{
    domain::{JobKey, Tenant, registry::RecordKey},
    store::AuditPosition,
};

/// Differences that are named; more are counted.
const MAX_NAMED: usize = 10;

/// What is not in the copy as it is in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// A job is not in the copy.
    Missing(JobKey),
    /// A job is in the copy, and not in the source.
    Extra(JobKey),
    /// A job is not the same.
    Job(JobKey, Vec<&'static str>),
    /// What is known of a tenant, a credential or a data key.
    Record(RecordKey, Unlike),
    /// A record of the audit log.
    Audit(AuditPosition, Unlike),
    /// A counter of the copy does not say what is there.
    Counter(Tenant, String),
    /// Something beside the jobs.
    Other(&'static str),
}

/// How something is not in the copy as it is in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlike {
    /// It is not in the copy.
    Missing,
    /// It is in the copy, and not in the source.
    Extra,
    /// It is in both, and not the same.
    Changed,
}

impl Unlike {
    /// What is unlike in one thing, here and there.
    pub(super) fn of<T: PartialEq>(here: Option<&T>, there: Option<&T>) -> Option<Self> {
        match (here, there) {
            (Some(_), None) => Some(Self::Missing),
            (None, Some(_)) => Some(Self::Extra),
            (here, there) => (here != there).then_some(Self::Changed),
        }
    }
}

/// All differences, as far as they are named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The first of them.
    pub named: Vec<Difference>,
    /// How many more there are.
    pub more: u64,
    /// How many of all are things that are not in the source.
    pub extra: u64,
}

/// One of the two stores, as far as it has been read.
#[derive(Debug, Default)]
pub(super) struct Half {
    pub(super) contents: Contents,
    /// The tenant that is being read, and what it has so far.
    tenant: Option<(Tenant, Numbers)>,
}

impl Half {
    /// Notes the next job; answers the tenant before, with what it has, if that was its last.
    pub(super) fn note(&mut self, seen: &Seen) -> Option<(Tenant, Numbers)> {
        self.contents.count(&seen.weighed);
        let tenant = &seen.key.tenant;
        let ended = match &self.tenant {
            Some((current, _)) if current == tenant => None,
            _ => {
                self.contents.tenants += 1;
                self.tenant.replace((tenant.clone(), Numbers::default()))
            }
        };
        if let Some((_, numbers)) = &mut self.tenant {
            numbers.count(&seen.weighed);
        }
        ended
    }

    /// The last tenant.
    pub(super) fn end(&mut self) -> Option<(Tenant, Numbers)> {
        self.tenant.take()
    }
}

impl Differences {
    pub(super) fn add(&mut self, difference: Difference) {
        let is_extra = matches!(
            difference,
            Difference::Extra(_)
                | Difference::Record(_, Unlike::Extra)
                | Difference::Audit(_, Unlike::Extra)
        );
        self.extra += u64::from(is_extra);
        match self.named.len() {
            MAX_NAMED => self.more += 1,
            _ => self.named.push(difference),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty()
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.named.len() as u64 + self.more
    }

    /// Compares the next job of each; answers which of the two are done with: the one that comes first, or both.
    pub(super) fn compare(&mut self, here: Option<&Seen>, there: Option<&Seen>) -> (bool, bool) {
        let order = match (here, there) {
            (Some(here), Some(there)) => here.key.cmp(&there.key),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        };
        match (order, here, there) {
            (Ordering::Less, Some(here), _) => self.add(Difference::Missing(here.key.clone())),
            (Ordering::Greater, _, Some(there)) => self.add(Difference::Extra(there.key.clone())),
            (Ordering::Equal, Some(here), Some(there)) => {
                let differ = here.weighed.digests.differences(&there.weighed.digests);
                if !differ.is_empty() {
                    self.add(Difference::Job(here.key.clone(), differ));
                }
            }
            _ => {}
        }
        (order.is_le(), order.is_ge())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(key) => write!(f, "job {} of {} is missing", key.job, key.tenant),
            Self::Extra(key) => {
                write!(f, "job {} of {} is not in the source", key.job, key.tenant)
            }
            Self::Job(key, parts) => {
                let parts = parts.join(", ");
                write!(f, "job {} of {} differs: {parts}", key.job, key.tenant)
            }
            Self::Record(key, unlike) => write!(f, "the {key} {unlike}"),
            Self::Audit(at, unlike) => write!(f, "record {} of the audit log {unlike}", at.id),
            Self::Counter(tenant, what) => write!(f, "the counters of {tenant} say {what}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for Unlike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Extra => "is not in the source",
            Self::Changed => "differs",
        })
    }
}
