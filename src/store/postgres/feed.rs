//! The feed by snapshots: what is new since a cursor, whoever made it.
//!
//! Each event has the id of its transaction. A cursor is a snapshot: the first id that had not been given out yet, and those below that were still in
//! progress. New since then is what has an id that the cursor has not seen and is visible now. Ids are given out before they are committed, and never
//! in that order: so no number alone could say it, and no transaction, however long, holds anybody up.
//!
//! A cursor goes no further than the newest event that is there. An id that nothing on disk bears, of a transaction that was rolled back or committed
//! without waiting for the disk, is given out once more after a crash of the server, and then for something that nobody has seen.

use std::{collections::HashMap, sync::LazyLock};

use deadpool_postgres::ClientWrapper;
use futures_util::future::try_join;
use tokio_postgres::Row;

use super::{
    columns::{Cells, EVENT_COLUMNS, JOB_COLUMNS, WITH_TASKS, that_fit},
    read::{self, as_limit, columns_of},
    session::{query, query_one},
};
use crate::{
    domain::{
        Job, JobId, JobKey, Tenant, Timestamp,
        event::{Event, EventKind},
    },
    store::{
        FeedCursor, FeedItem, MAX_FEED_EVENTS, StoreError, Stretch,
        rows::{number, unsigned},
    },
};

/// Events that one read for all tenants tells, besides those of the last one's transaction.
const MAX_TAIL_EVENTS: usize = 4_000;
/// Bytes of jobs after which a stretch ends: what can be held in memory for a caller, and more than a message takes.
pub(super) const MAX_JOBS_BYTES: usize = 16 * 1024 * 1024;
/// The snapshot with the timeline, and the newest event in it. A standby that takes over begins another timeline, and gives out again the ids of what it has
/// lost.
pub(super) const SNAPSHOT: &str = "pg_current_snapshot()::text || ':' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS snapshot, \
    greatest((SELECT max(xid) FROM events), (SELECT max(xid) FROM removed)) AS newest";

/// The snapshot is the statement's own: it has seen exactly the events that come with it.
pub(super) static SELECT_NEW: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT s.snapshot, s.now, f.xid, f.n, f.tenant, f.job, f.revision, f.time, f.kind, f.rest
         FROM (
            SELECT {SNAPSHOT}, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now OFFSET 0
         ) AS s
         LEFT JOIN LATERAL (
            SELECT xid, n, {EVENT_COLUMNS} FROM feed WHERE xid >= $1 AND xid < $2 ORDER BY xid, n LIMIT $3
         ) AS f ON true ORDER BY f.xid, f.n"
    )
});
/// What was in progress when the cursor was taken.
pub(super) static SELECT_PENDING: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT '', 0::bigint, xid, n, {EVENT_COLUMNS}
         FROM feed WHERE xid = ANY($1::bigint[]) ORDER BY xid, n LIMIT $2"
    )
});
pub(super) static SELECT_REST: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT '', 0::bigint, xid, n, {EVENT_COLUMNS} FROM feed WHERE xid = $1 AND n > $2 ORDER BY n"
    )
});

/// The cursor that a snapshot is, `xmin:xmax:xip,xip:timeline`, the last of them in hexadecimal, as far as this event.
fn cursor(snapshot: &str, newest: u64) -> Result<FeedCursor, StoreError> {
    let wrong = || StoreError::Corrupt(format!("{snapshot:?} is no snapshot"));
    let mut parts = snapshot.split(':').skip(1);
    let before: Option<u64> = parts.next().and_then(|xmax| xmax.parse().ok());
    let pending = parts.next().unwrap_or_default().split(',');
    let pending: Result<Vec<u64>, _> = pending
        .filter(|xid| !xid.is_empty())
        .map(str::parse)
        .collect();
    let timeline = parts
        .next()
        .and_then(|tli| u32::from_str_radix(tli, 16).ok());
    let before = before.ok_or_else(wrong)?.min(newest.saturating_add(1));
    let pending = pending.map_err(|_| wrong())?;
    Ok(FeedCursor::new(before, pending).in_era(timeline.ok_or_else(wrong)?))
}

/// The cursor in a row whose first columns are [`SNAPSHOT`].
pub(super) fn cursor_of(row: &Row) -> Result<FeedCursor, StoreError> {
    let newest: Option<i64> = row.try_get(1)?;
    cursor(
        row.try_get(0)?,
        unsigned("transaction", newest.unwrap_or(0))?,
    )
}

/// Where the feed ends now.
pub(super) async fn end(client: &ClientWrapper) -> Result<FeedCursor, StoreError> {
    let row = query_one(client, &format!("SELECT {SNAPSHOT}"), &[]).await?;
    cursor_of(&row)
}

/// What is new, in the order of the feed and by whole transactions.
struct New {
    events: Vec<(u64, Event)>,
    until: FeedCursor,
    more: bool,
    now: Timestamp,
}

/// What is new after a cursor, and up to another one if it is given; some `limit` events of it.
async fn new(
    client: &ClientWrapper,
    after: &FeedCursor,
    until: Option<&FeedCursor>,
    limit: usize,
) -> Result<New, StoreError> {
    let stop = until.map_or(i64::MAX, |until| number(until.before()));
    let (begin, most) = (number(after.before()), as_limit(limit));
    let parameters = [&begin as _, &stop as _, &most as _];
    let pending: Vec<i64> = after.pending().iter().copied().map(number).collect();
    let late = async {
        match pending.is_empty() {
            true => Ok(Vec::new()),
            false => query(client, &SELECT_PENDING, &[&pending, &most]).await,
        }
    };
    let (rows, late) = try_join(query(client, &SELECT_NEW, &parameters), late).await?;
    let first = rows.first();
    let first = first.ok_or_else(|| StoreError::Failed("no snapshot came".into()))?;
    let until = match until {
        Some(until) => until.clone(),
        None => {
            let newest: Option<i64> = rows.last().unwrap_or(first).try_get(2)?;
            let newest = match newest {
                // The stretch ends before the newest event, whichever that is.
                Some(_) if rows.len() >= limit => u64::MAX,
                Some(newest) => unsigned("transaction", newest)?,
                None => after.before().saturating_sub(1),
            };
            cursor(first.try_get(0)?, newest)?
        }
    };
    let now = Timestamp::from_micros(first.try_get(1)?);
    if !until.is_of_the_era_of(after) {
        return Ok(New {
            events: Vec::new(),
            // What was looked at may be behind the new one's newest event.
            until: end(client).await?,
            more: false,
            now,
        });
    }
    // All that was pending has smaller ids. Where they are too many, what comes behind has to wait.
    let is_long = late.len() >= limit;
    let is_cut = is_long || rows.len() >= limit;
    let mut found: Vec<Found> = Vec::with_capacity(late.len() + rows.len());
    for row in late.iter().chain(rows.iter().filter(|_| !is_long)) {
        found.extend(Found::read(row)?);
    }
    let mut reached = until.clone();
    if is_cut && let Some(last) = found.last() {
        let (xid, n) = (number(last.xid), last.n);
        for row in query(client, &SELECT_REST, &[&xid, &n]).await? {
            found.extend(Found::read(&row)?);
        }
        reached = after.on_the_way(&until, unsigned("transaction", xid)?);
    }
    // What was pending is read a moment later, and so may be newer than the snapshot.
    found.retain(|found| until.has_seen(found.xid));
    Ok(New {
        events: found.into_iter().map(|one| (one.xid, one.event)).collect(),
        more: reached != until,
        until: reached,
        now,
    })
}

struct Found {
    xid: u64,
    n: i32,
    event: Event,
}

impl Found {
    fn read(row: &Row) -> Result<Option<Self>, StoreError> {
        let mut cells = Cells::of(row, 2);
        let Some(xid) = cells.next::<Option<i64>>()? else {
            return Ok(None);
        };
        Ok(Some(Self {
            xid: unsigned("transaction", xid)?,
            n: cells.next()?,
            event: cells.event()?,
        }))
    }
}

/// The feed of all tenants: see [`crate::store::Tail::read`].
pub(super) async fn stretch(
    client: &ClientWrapper,
    after: &FeedCursor,
) -> Result<Stretch, StoreError> {
    let new = new(client, after, None, MAX_TAIL_EVENTS);
    let (new, paused) = try_join(new, read::paused_drivers(client)).await?;
    let New {
        events,
        until,
        more,
        now,
    } = new;
    Ok(Stretch {
        events,
        until,
        more,
        now,
        paused,
    })
}

/// A tenant's part of it: see [`crate::store::Store::feed`].
pub(super) async fn items(
    client: &ClientWrapper,
    tenant: &Tenant,
    after: &FeedCursor,
    until: &FeedCursor,
) -> Result<(Vec<FeedItem>, FeedCursor), StoreError> {
    let mut new = new(client, after, Some(until), MAX_FEED_EVENTS).await?;
    let first = new.events.first().map(|(xid, _)| *xid);
    new.events.retain(|(_, event)| event.tenant == *tenant);
    let items = gather(&new.events);
    let mut jobs: HashMap<JobId, Job> = HashMap::new();
    let mut read = 0;
    let mut room = MAX_JOBS_BYTES;
    while read < items.len() {
        let keys = |end: usize| -> Vec<JobKey> {
            let items = items[read..end].iter();
            items.map(|item| item.key.clone()).collect()
        };
        let (looked, found) = if room > 0 {
            jobs_within(client, &keys(items.len()), &mut room).await?
        } else if Some(items[read].first_position) == first {
            // The first transaction is told whole, however large: who waits for the next must get somewhere.
            let is_later = |item: &FeedItem| Some(item.first_position) != first;
            let end = items.iter().position(is_later).unwrap_or(items.len());
            let mut more = MAX_JOBS_BYTES;
            jobs_within(client, &keys(end), &mut more).await?
        } else {
            let cut = items[read].first_position;
            new.events.retain(|(xid, _)| *xid < cut);
            new.until = after.on_the_way(until, cut - 1);
            break;
        };
        jobs.extend(found.into_iter().map(|job| (job.id, job)));
        read += looked;
    }
    // Of a job that is gone only that is told, here as elsewhere: its other events go by and by.
    let is_told =
        |event: &Event| jobs.contains_key(&event.job) || event.kind == EventKind::JobDeleted;
    new.events.retain(|(_, event)| is_told(event));
    let mut items = gather(&new.events);
    for item in &mut items {
        item.job = jobs.remove(&item.key.job).map(Into::into);
    }
    items.sort_by_key(|item| item.position);
    Ok((items, new.until))
}

/// Each job once, in the order of their oldest changes; without the jobs.
fn gather(events: &[(u64, Event)]) -> Vec<FeedItem> {
    let mut places: HashMap<JobId, usize> = HashMap::new();
    let mut items: Vec<FeedItem> = Vec::new();
    for (position, event) in events {
        let place = *places.entry(event.job).or_insert(items.len());
        if place == items.len() {
            items.push(FeedItem {
                first_position: *position,
                position: *position,
                key: event.job_key(),
                job: None,
                from_revision: event.revision.saturating_sub(1),
                revision: event.revision,
                before: event.before,
            });
        }
        items[place].position = *position;
        items[place].revision = event.revision;
    }
    items
}

/// Jobs for which there is room, at least one: in the order in which they are asked for, with where each stands there.
pub(super) static SELECT_WITHIN: LazyLock<String> = LazyLock::new(|| {
    let asked = "SELECT j.*, k.place FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS k(tenant, id, place)
        CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.tenant = k.tenant AND jobs.id = k.id OFFSET 0) AS j";
    let fit = that_fit(asked, "j.place", "$3::bigint");
    format!(
        "SELECT j.place, j.is_cut, j.tenant, j.id, {JOB_COLUMNS} FROM ({fit}) AS j {WITH_TASKS} ORDER BY j.place"
    )
});

/// Reads jobs until there is no room left for more, at least one; answers how many keys that were.
pub(super) async fn jobs_within(
    client: &ClientWrapper,
    keys: &[JobKey],
    room: &mut usize,
) -> Result<(usize, Vec<Job>), StoreError> {
    let (tenants, ids) = columns_of(keys);
    let most = as_limit((*room).max(1));
    let rows = query(client, &SELECT_WITHIN, &[&tenants, &ids, &most]).await?;
    let mut jobs = Vec::with_capacity(rows.len());
    let mut looked = keys.len();
    for row in &rows {
        let mut cells = Cells::of(row, 0);
        let (place, is_cut): (i64, bool) = (cells.next()?, cells.next()?);
        let key = cells.key()?;
        let job = cells.job(key)?;
        *room = room.saturating_sub(job.memory_bytes());
        jobs.push(job);
        if is_cut {
            looked = usize::try_from(place).unwrap_or(looked).min(looked);
            *room = 0;
        }
    }
    Ok((looked, jobs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_a_cursor() {
        let of = |snapshot| cursor(snapshot, u64::MAX).ok();
        let none = FeedCursor::new(700, vec![]).in_era(1);
        assert_eq!(of("700:700::00000001"), Some(none));
        let some = FeedCursor::new(705, vec![702, 704]).in_era(0x1f);
        assert_eq!(of("700:705:702,704:0000001F"), Some(some));
        let short = cursor("700:705:702,704:1", 702).ok();
        let expected = FeedCursor::new(703, vec![702]).in_era(1);
        assert_eq!(short, Some(expected));
        for wrong in [
            "",
            "700",
            "700:",
            "700:x::1",
            "700:705:a:1",
            "700:705:",
            "700:705::x",
        ] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }
}
