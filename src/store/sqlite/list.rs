//! Pages of jobs, and stretches of the feed. Each looks at a bounded number of rows: a page may be shorter than asked, and still not be the last.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use rusqlite::{
    Connection, Row, params, params_from_iter,
    types::{Value, ValueRef},
};
use uuid::Uuid;

use super::{dialect::Sqlite, read};
use crate::{
    domain::{Job, JobId, JobKey, Tenant},
    store::{
        FeedCursor, FeedItem, ListOrder, ListPosition, ListQuery, MAX_FEED_EVENTS, Page,
        StoreError, Tally, filter,
        rows::{Coded, assemble, number, unsigned},
    },
};

/// Rows that a page looks at: some ten milliseconds' work when nothing matches.
pub(super) const MAX_EXAMINED: usize = 20_000;
/// Bytes of jobs after which a page or stretch ends: what can be held in memory for a caller, and more than a message takes.
const MAX_JOBS_BYTES: usize = 16 * 1024 * 1024;
/// Ids that are candidates: behind the position, and as the filter wants them, so that nobody looks at what it leaves out.
const WITHIN: &str = "id > ?2 AND id < ?3";

pub(super) static SELECT_FEED: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT position, {} FROM events WHERE position >= ?1 AND position < ?2
         ORDER BY position LIMIT {MAX_FEED_EVENTS}",
        read::EVENT_COLUMNS
    )
});

/// A page of jobs.
pub(super) fn page(connection: &Connection, query: &ListQuery) -> Result<Page, StoreError> {
    let seen = FeedCursor::at(read::position(connection)?);
    let source = Source::of(query);
    let (sql, values) = select(query, &source);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut jobs = Vec::new();
    let mut at: Vec<ListPosition> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        if jobs.len() == query.limit || bytes > MAX_JOBS_BYTES {
            return Ok(Page {
                next: at.last().copied(),
                jobs,
                at,
                seen,
            });
        }
        at.push(position(row)?);
        let key = read::job_key(query.tenant.clone(), row, 1)?;
        let (fixed, now) = read::job_columns(row, 2)?;
        let tasks = read::tasks(connection, &key)?;
        let job = assemble(key, fixed, now, tasks)?;
        bytes += job.memory_bytes();
        jobs.push(Arc::new(job));
    }
    let next = source.last_candidate(connection)?;
    Ok(Page {
        jobs,
        at,
        next,
        seen,
    })
}

/// How many jobs match: see [`crate::store::Store::tally`].
pub(super) fn tally(connection: &Connection, query: &ListQuery) -> Result<Tally, StoreError> {
    let source = Source::of(query);
    let (sql, values) = count(query, &source);
    let mut statement = connection.prepare_cached(&sql)?;
    let (last, count) = statement.query_row(params_from_iter(values), |row| {
        let last = match row.get_ref(0)? {
            ValueRef::Null => None,
            _ => Some(position(row)),
        };
        Ok((last, row.get(1)?))
    })?;
    let count: usize = unsigned("count", count)?;
    let next = match last.transpose()? {
        Some(last) if count >= query.limit => Some(last),
        _ => source.last_candidate(connection)?,
    };
    Ok(Tally { count, next })
}

/// The statement that reads a page, and the values of its parameters.
pub(super) fn select(query: &ListQuery, source: &Source) -> (String, Vec<Value>) {
    // One more than asked tells whether there is another page.
    let (matching, values) = matching(query, source, query.limit.saturating_add(1));
    let columns = read::JOB_COLUMNS;
    (format!("SELECT c.at, j.id, {columns} {matching}"), values)
}

/// The statement that counts, and the values of its parameters.
pub(super) fn count(query: &ListQuery, source: &Source) -> (String, Vec<Value>) {
    let (matching, values) = matching(query, source, query.limit);
    let last = match query.order {
        ListOrder::CreateTime | ListOrder::UpdateTime => "max",
        ListOrder::CreateTimeDesc | ListOrder::UpdateTimeDesc => "min",
    };
    let sql = format!("SELECT {last}(at), count(*) FROM (SELECT c.at {matching})");
    (sql, values)
}

/// What comes behind the columns: the first `limit` candidates that match.
fn matching(query: &ListQuery, source: &Source, most: usize) -> (String, Vec<Value>) {
    let limit = source.values.len() + 1;
    let condition = filter::condition::<Sqlite>(&query.filter, limit + 1);
    let sql = format!(
        "FROM ({candidates}) AS c
         CROSS JOIN jobs AS j ON j.tenant = ?1 AND j.id = c.id AND {is_current}
         WHERE {condition} LIMIT ?{limit}",
        candidates = source.candidates,
        is_current = source.is_current,
        condition = condition.sql,
    );
    let mut values = source.values.clone();
    values.push(read::as_limit(most).into());
    values.extend(condition.values.into_iter().map(value));
    (sql, values)
}

fn value(value: filter::Value) -> Value {
    match value {
        filter::Value::Integer(value) => value.into(),
        filter::Value::Text(value) => value.into(),
        filter::Value::Bytes(value) => value.into(),
        filter::Value::Id(value) => value.as_bytes().to_vec().into(),
    }
}

/// Where the candidates of a page come from.
pub(super) struct Source {
    /// Selects columns `at` and `id` of at most [`MAX_EXAMINED`] candidates, in order; ?1 is the tenant.
    candidates: String,
    /// For its parameters.
    values: Vec<Value>,
    /// What must hold besides of a candidate `c` and its job `j`.
    is_current: &'static str,
}

impl Source {
    /// The narrowest there is.
    pub(super) fn of(query: &ListQuery) -> Self {
        let (low, high) = filter::id_bounds(&query.filter);
        let after = match query.after {
            Some(ListPosition::Job(id)) => Some(id.0),
            Some(ListPosition::Feed(_)) | None => None,
        };
        let (low, high, order) = match query.order {
            ListOrder::UpdateTimeDesc => return Self::by_change(query, i64::MAX, "<", "DESC"),
            ListOrder::UpdateTime => return Self::by_change(query, 0, ">", "ASC"),
            ListOrder::CreateTimeDesc => (low, after.map_or(high, |id| high.min(id)), "DESC"),
            ListOrder::CreateTime => (after.map_or(low, |id| low.max(id)), high, "ASC"),
        };
        let mut values: Vec<Value> = vec![
            query.tenant.0.to_string().into(),
            low.as_bytes().to_vec().into(),
            high.as_bytes().to_vec().into(),
        ];
        let states = filter::possible_states(&query.filter);
        let candidates = if let Some(ids) = filter::required_ids(&query.filter) {
            let each: Vec<String> = ids
                .iter()
                .map(|id| {
                    values.push(id.0.as_bytes().to_vec().into());
                    let id = values.len();
                    format!(
                        "SELECT id AS at, id FROM jobs WHERE tenant = ?1 AND id = ?{id} AND {WITHIN}"
                    )
                })
                .collect();
            each.join(" UNION ALL ")
        } else if let Some(parent) = filter::required_parent(&query.filter) {
            values.push(parent.0.as_bytes().to_vec().into());
            format!(
                "SELECT id AS at, id FROM jobs INDEXED BY jobs_children
                 WHERE tenant = ?1 AND parent = ?4 AND parent IS NOT NULL AND {WITHIN}"
            )
        } else if !states.is_empty() && states.iter().all(|state| !state.is_terminal()) {
            let each: Vec<String> = states
                .iter()
                .map(|state| {
                    format!(
                        "SELECT id AS at, id FROM jobs INDEXED BY jobs_open
                         WHERE tenant = ?1 AND state = {} AND state <= 3 AND {WITHIN}",
                        state.code()
                    )
                })
                .collect();
            each.join(" UNION ALL ")
        } else {
            format!("SELECT id AS at, id FROM jobs WHERE tenant = ?1 AND {WITHIN}")
        };
        Self {
            candidates: format!("{candidates} ORDER BY at {order} LIMIT {MAX_EXAMINED}"),
            values,
            is_current: "1",
        }
    }

    /// A job's last change is the event with the job's own revision, so the order of changes needs no index of its own.
    fn by_change(query: &ListQuery, begin: i64, behind: &str, order: &str) -> Self {
        let begin = match query.after {
            Some(ListPosition::Feed(position)) => number(position),
            Some(ListPosition::Job(_)) | None => begin,
        };
        Self {
            candidates: format!(
                "SELECT position AS at, job AS id, tenant, revision FROM events
                 WHERE position {behind} ?2 ORDER BY position {order} LIMIT {MAX_EXAMINED}"
            ),
            values: vec![query.tenant.0.to_string().into(), begin.into()],
            is_current: "c.tenant = ?1 AND j.revision = c.revision",
        }
    }

    /// The last candidate, if there may be more behind it.
    fn last_candidate(&self, connection: &Connection) -> Result<Option<ListPosition>, StoreError> {
        let sql = format!(
            "SELECT at FROM ({}) WHERE ?1 IS NOT NULL LIMIT 1 OFFSET {}",
            self.candidates,
            MAX_EXAMINED - 1
        );
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(&self.values))?;
        Ok(match rows.next()? {
            Some(row) => Some(position(row)?),
            None => None,
        })
    }
}

/// The position in the first column: an id, or a position of the feed.
fn position(row: &Row<'_>) -> Result<ListPosition, StoreError> {
    Ok(match row.get_ref(0)? {
        ValueRef::Integer(at) => ListPosition::Feed(unsigned("position", at)?),
        _ => ListPosition::Job(JobId(Uuid::from_bytes(row.get(0)?))),
    })
}

/// A stretch of the feed: see [`crate::store::Store::feed`].
pub(super) fn feed(
    connection: &Connection,
    tenant: &Tenant,
    after: &FeedCursor,
    until: &FeedCursor,
) -> Result<(Vec<FeedItem>, FeedCursor), StoreError> {
    let mut statement = connection.prepare_cached(&SELECT_FEED)?;
    // Nothing is ever pending here: one connection writes.
    let mut rows = statement.query(params![number(after.before()), number(until.before())])?;
    let mut items: HashMap<JobId, FeedItem> = HashMap::new();
    let mut reached = after.clone();
    let mut looked = 0;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let position = unsigned("position", row.get(0)?)?;
        let event = read::event_columns(row, 1)?.event()?;
        let known = items.get_mut(&event.job);
        if event.tenant == *tenant && known.is_none() && bytes > MAX_JOBS_BYTES {
            return Ok((in_order(items), reached));
        }
        reached = after.on_the_way(until, position);
        looked += 1;
        if event.tenant != *tenant {
            continue;
        }
        if let Some(item) = known {
            item.position = position;
            item.revision = event.revision;
            continue;
        }
        let key = JobKey {
            tenant: tenant.clone(),
            job: event.job,
        };
        let job = read::job(connection, &key)?.map(Arc::new);
        bytes += job.as_deref().map_or(0, Job::memory_bytes);
        items.insert(
            event.job,
            FeedItem {
                first_position: position,
                position,
                key,
                job,
                from_revision: event.revision.saturating_sub(1),
                revision: event.revision,
                before: event.before,
            },
        );
    }
    let reached = match looked {
        MAX_FEED_EVENTS => reached,
        _ => until.clone(),
    };
    Ok((in_order(items), reached))
}

fn in_order(items: HashMap<JobId, FeedItem>) -> Vec<FeedItem> {
    let mut items: Vec<FeedItem> = items.into_values().collect();
    items.sort_by_key(|item| item.position);
    items
}
