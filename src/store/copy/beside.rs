//! What stands beside the jobs: tenants, credentials and data keys, and the audit log.

use std::{cmp::Ordering, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    CopyError,
    compare::{Difference, Differences, Unlike},
    contents::Contents,
    digest::{self, Checksum},
    read,
    reading::{self, Reading},
    written,
};
use crate::{
    domain::registry::{Record, RecordKind},
    store::{AuditPosition, AuditQuery, RecordQuery, Store, StoreError},
};

/// As much of it as changes with every change. An end of the feed tells nothing of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Over all records.
    records: Checksum,
    /// Where the audit log ends.
    audit: Option<AuditPosition>,
}

impl Mark {
    pub(super) async fn of(store: &Arc<dyn Store>) -> Result<Self, StoreError> {
        let mut records = Checksum::default();
        let mut reading = reading::records(Arc::clone(store));
        while let Some(record) = reading.next().await? {
            records.add(&digest::of_record(&record));
        }
        let newest = last_of_log(&**store).await?;
        Ok(Self {
            records,
            audit: newest,
        })
    }
}

/// Where the audit log ends.
async fn last_of_log(store: &dyn Store) -> Result<Option<AuditPosition>, StoreError> {
    let query = AuditQuery {
        tenant: None,
        descending: true,
        after: None,
        limit: 1,
    };
    let newest = store.registry().audit(query).await?;
    Ok(newest.first().map(AuditPosition::of))
}

/// Whether there is an audit log.
pub(super) async fn has_log(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(last_of_log(store).await?.is_some())
}

/// Whether there is anything of it.
pub(super) async fn is_there(store: &dyn Store) -> Result<bool, StoreError> {
    for kind in RecordKind::ALL {
        let query = RecordQuery {
            kind,
            tenant: None,
            after: None,
            limit: 1,
        };
        if !store.registry().records(query).await?.is_empty() {
            return Ok(true);
        }
    }
    has_log(store).await
}

/// Compares all of it, and counts what each store has.
pub(super) async fn compare(
    from: (&Arc<dyn Store>, &mut Contents),
    to: (&Arc<dyn Store>, &mut Contents),
    differences: &mut Differences,
) -> Result<(), CopyError> {
    let ((here, of_here), (there, of_there)) = (from, to);
    let [from, to] = [here, there].map(|store| reading::records(Arc::clone(store)));
    let see = |here: Option<&Record>, there: Option<&Record>| {
        for (contents, record) in [(&mut *of_here, here), (&mut *of_there, there)] {
            if let Some(record) = record {
                contents.records.count(record.key().kind);
                contents.checksum.add(&digest::of_record(record));
            }
        }
        if let (Some(record), Some(unlike)) = (here.or(there), Unlike::of(here, there)) {
            differences.add(Difference::Record(record.key(), unlike));
        }
    };
    side_by_side(from, to, Record::key, see).await?;
    let [from, to] = [here, there].map(|store| reading::audit(Arc::clone(store)));
    side_by_side(from, to, AuditPosition::of, |here, there| {
        for (contents, record) in [(&mut *of_here, here), (&mut *of_there, there)] {
            if let Some(record) = record {
                contents.audit += 1;
                contents.checksum.add(&digest::of_audit(record));
            }
        }
        if let (Some(record), Some(unlike)) = (here.or(there), Unlike::of(here, there)) {
            differences.add(Difference::Audit(AuditPosition::of(record), unlike));
        }
    })
    .await
}

/// Shows what both have, in its order: that of one store, that of the other, or both if they have the same key.
async fn side_by_side<T: Send + 'static, K: Ord>(
    mut from: Reading<T>,
    mut to: Reading<T>,
    key: impl Fn(&T) -> K,
    mut see: impl FnMut(Option<&T>, Option<&T>),
) -> Result<(), CopyError> {
    let mut here = from.next().await.map_err(read)?;
    let mut there = to.next().await.map_err(written)?;
    loop {
        let order = match (&here, &there) {
            (Some(here), Some(there)) => key(here).cmp(&key(there)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => return Ok(()),
        };
        let first = here.as_ref().filter(|_| order.is_le());
        let other = there.as_ref().filter(|_| order.is_ge());
        see(first, other);
        if order.is_le() {
            here = next(&mut from, here.as_ref().map(&key), &key)
                .await
                .map_err(read)?;
        }
        if order.is_ge() {
            there = next(&mut to, there.as_ref().map(&key), &key)
                .await
                .map_err(written)?;
        }
    }
}

/// The next one, which must come behind the one before: whoever compares relies on it.
async fn next<T: Send + 'static, K: Ord>(
    reading: &mut Reading<T>,
    before: Option<K>,
    key: &impl Fn(&T) -> K,
) -> Result<Option<T>, StoreError> {
    let next = reading.next().await?;
    match &next {
        Some(next) if Some(key(next)) <= before => Err(StoreError::Corrupt(
            "tenants, keys or the audit log come out of order".into(),
        )),
        _ => Ok(next),
    }
}
