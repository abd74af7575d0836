//! Pages of jobs. Each looks at a bounded number of rows: a page may be shorter than asked, and still not be the last.
//!
//! A page is one statement, and so of one moment: the jobs that match; behind them, if they do not fill the page, the last candidate that was looked at;
//! and what of the feed that moment has seen.

use deadpool_postgres::ClientWrapper;
use futures_util::{StreamExt, pin_mut};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};

use super::{
    columns::{Cells, JOB_COLUMNS, WITH_TASKS, that_fit},
    dialect::Postgres,
    feed::{self, MAX_JOBS_BYTES, SNAPSHOT},
    read::as_limit,
};
use crate::{
    domain::{JobId, JobKey},
    store::{
        ListOrder, ListPosition, ListQuery, Page, StoreError, Tally,
        filter::{self, Value},
        rows::{Coded, number, unsigned},
    },
};

/// Rows that a page looks at: some ten milliseconds' work when nothing matches.
pub(super) const MAX_EXAMINED: usize = 20_000;
/// Bits of a position of the feed that say which event of its transaction it is. One has at most a few events for each of the commands in a commit, and
/// those are 2,048; of the ids of transactions 41 bits are left, which is one for each microsecond of 25 days, and for each millisecond of 69 years.
const EVENT_BITS: u32 = 22;
/// The position of an event `e`: see [`EVENT_BITS`].
pub(super) const AT_EVENT: &str = "((e.xid << 22) | e.n)";
/// Ids that are candidates: behind the position, and as the filter wants them, so that nobody looks at what it leaves out.
const WITHIN: &str = "j.id > $2 AND j.id < $3";

/// Transaction and number of the event at a position.
pub(super) fn place(position: i64) -> (i64, i64) {
    (position >> EVENT_BITS, position & ((1 << EVENT_BITS) - 1))
}

/// A page of jobs.
pub(super) async fn page(client: &ClientWrapper, query: &ListQuery) -> Result<Page, StoreError> {
    let (sql, values) = select(query);
    let typed: Vec<(&(dyn ToSql + Sync), Type)> = values.iter().map(typed).collect();
    let rows = client.query_typed_raw(&sql, typed).await?;
    pin_mut!(rows);
    let mut seen = None;
    let mut found = Vec::new();
    let mut next = None;
    let mut bytes = 0;
    while let Some(row) = rows.next().await {
        let row = row?;
        if seen.is_none() {
            seen = Some(feed::cursor_of(&row)?);
        }
        let Some(at) = position(&row, 2)? else {
            continue;
        };
        let mut cells = Cells::of(&row, 4);
        let is_cut = cells.next()?;
        let Some(id) = cells.next()? else {
            // The last candidate, after fewer jobs than were asked for.
            next = Some(at);
            continue;
        };
        if found.len() == query.limit || bytes > MAX_JOBS_BYTES {
            next = found.last().map(|(at, _)| *at);
            break;
        }
        let key = JobKey {
            tenant: query.tenant.clone(),
            job: JobId(id),
        };
        let job = cells.job(key)?;
        bytes += job.memory_bytes();
        if is_cut {
            next = Some(at);
        }
        found.push((at, job));
        if is_cut {
            break;
        }
    }
    let seen = seen.ok_or_else(|| StoreError::Failed("no snapshot came".into()))?;
    let (at, jobs): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    Ok(Page {
        jobs: jobs.into_iter().map(Into::into).collect(),
        at,
        next,
        seen,
    })
}

/// How many jobs match: see [`crate::store::Store::tally`].
pub(super) async fn tally(client: &ClientWrapper, query: &ListQuery) -> Result<Tally, StoreError> {
    let (sql, values) = count(query);
    let typed: Vec<(&(dyn ToSql + Sync), Type)> = values.iter().map(typed).collect();
    let rows = client.query_typed(&sql, &typed).await?;
    let row = rows.first();
    let row = row.ok_or_else(|| StoreError::Failed("no count came".into()))?;
    Ok(Tally {
        next: position(row, 0)?,
        count: unsigned("count", row.try_get(2)?)?,
    })
}

fn typed(value: &Value) -> (&(dyn ToSql + Sync), Type) {
    match value {
        Value::Integer(value) => (value, Type::INT8),
        Value::Text(value) => (value, Type::TEXT),
        Value::Bytes(value) => (value, Type::BYTEA),
        Value::Id(value) => (value, Type::UUID),
    }
}

/// The position in two columns: an id, or a position of the feed; neither if there is none.
fn position(row: &Row, from: usize) -> Result<Option<ListPosition>, StoreError> {
    let mut cells = Cells::of(row, from);
    if let Some(id) = cells.next::<Option<_>>()? {
        return Ok(Some(ListPosition::Job(JobId(id))));
    }
    let at: Option<i64> = cells.next()?;
    let at = at.map(|at| unsigned("position", at)).transpose()?;
    Ok(at.map(ListPosition::Feed))
}

/// The statement that reads a page, and its values. The columns: the snapshot with the newest event, the position, whether jobs behind it found no room,
/// and the job, which is NULL for the last candidate.
pub(super) fn select(query: &ListQuery) -> (String, Vec<Value>) {
    let source = Source::of(query);
    // One more than asked tells whether there is another page.
    let most = as_limit(query.limit.saturating_add(1));
    let (matching, values) = source.matching(query, most);
    let nothing = vec!["NULL"; JOB_COLUMNS.split(',').count()].join(", ");
    let (last, order) = (source.last(), source.order());
    let fit = that_fit(&matching, &order, &MAX_JOBS_BYTES.to_string());
    let sql = format!(
        "SELECT s.*, r.* FROM (SELECT {SNAPSHOT} OFFSET 0) AS s
         LEFT JOIN LATERAL (
            (SELECT j.at_id, j.at_event, j.is_cut, j.id, {JOB_COLUMNS} FROM ({fit}) AS j {WITH_TASKS} ORDER BY {order})
            UNION ALL
            (SELECT c.at_id, c.at_event, false, NULL, {nothing} FROM ({last}) AS c)
            LIMIT {most}
         ) AS r ON true"
    );
    (sql, values)
}

/// The statement that counts, and its values. The columns: where to go on, and the count.
pub(super) fn count(query: &ListQuery) -> (String, Vec<Value>) {
    let source = Source::of(query);
    let most = as_limit(query.limit);
    let (matching, values) = source.matching(query, most);
    let (last, reverse) = (source.last(), source.reverse_order());
    let sql = format!(
        "WITH m AS MATERIALIZED (SELECT j.at_id, j.at_event FROM ({matching}) AS j),
            n AS MATERIALIZED (SELECT count(*) AS count FROM m)
         SELECT l.at_id, l.at_event, n.count FROM n LEFT JOIN LATERAL (
            (SELECT j.at_id, j.at_event FROM m AS j WHERE n.count >= {most} ORDER BY {reverse} LIMIT 1)
            UNION ALL
            (SELECT c.at_id, c.at_event FROM ({last}) AS c WHERE n.count < {most})
         ) AS l ON true"
    );
    (sql, values)
}

/// Where the candidates of a page come from.
struct Source {
    /// Of what kind, and which of them.
    from: From,
    is_descending: bool,
    /// For its parameters; $1 is the tenant.
    values: Vec<Value>,
}

enum From {
    /// Rows of jobs that fulfil one of these conditions, of which none fulfils two; in the order of their ids.
    Jobs(Vec<String>),
    /// A job's last change is the event with the job's own revision, so the order of changes needs no index of its own.
    Events(&'static str),
}

impl Source {
    /// The narrowest there is.
    fn of(query: &ListQuery) -> Self {
        let (low, high) = filter::id_bounds(&query.filter);
        let after = match query.after {
            Some(ListPosition::Job(id)) => Some(id.0),
            Some(ListPosition::Feed(_)) | None => None,
        };
        let tenant = Value::Text(query.tenant.0.to_string());
        let (low, high, is_descending) = match query.order {
            ListOrder::UpdateTimeDesc => return Self::by_change(query, tenant, true),
            ListOrder::UpdateTime => return Self::by_change(query, tenant, false),
            ListOrder::CreateTimeDesc => (low, after.map_or(high, |id| high.min(id)), true),
            ListOrder::CreateTime => (after.map_or(low, |id| low.max(id)), high, false),
        };
        let mut values = vec![tenant, Value::Id(low), Value::Id(high)];
        let states = filter::possible_states(&query.filter);
        let conditions = if let Some(ids) = filter::required_ids(&query.filter) {
            let first = values.len() + 1;
            values.extend(ids.iter().map(|id| Value::Id(id.0)));
            let ids: Vec<String> = (first..=values.len()).map(|id| format!("${id}")).collect();
            vec![format!("j.id = ANY (ARRAY[{}])", ids.join(", "))]
        } else if let Some(parent) = filter::required_parent(&query.filter) {
            values.push(Value::Id(parent.0));
            vec!["j.parent = $4 AND j.parent IS NOT NULL".to_owned()]
        } else if !states.is_empty() && states.iter().all(|state| !state.is_terminal()) {
            let states = states.iter();
            let of = |code| format!("j.state = {code} AND j.state <= 3");
            states.map(|state| of(state.code())).collect()
        } else {
            vec!["true".to_owned()]
        };
        Self {
            from: From::Jobs(conditions),
            is_descending,
            values,
        }
    }

    fn by_change(query: &ListQuery, tenant: Value, is_descending: bool) -> Self {
        let after = match query.after {
            Some(ListPosition::Feed(position)) => number(position),
            Some(ListPosition::Job(_)) | None if is_descending => i64::MAX,
            Some(ListPosition::Job(_)) | None => 0,
        };
        let (xid, n) = place(after);
        Self {
            from: From::Events(match is_descending {
                true => "(e.xid, e.n) < ($2, $3)",
                false => "(e.xid, e.n) > ($2, $3)",
            }),
            is_descending,
            values: vec![tenant, Value::Integer(xid), Value::Integer(n)],
        }
    }

    /// By which column of the position, and in which direction.
    fn order(&self) -> String {
        self.ordered(self.is_descending)
    }

    fn reverse_order(&self) -> String {
        self.ordered(!self.is_descending)
    }

    fn ordered(&self, is_descending: bool) -> String {
        let column = match self.from {
            From::Jobs(_) => "j.at_id",
            From::Events(_) => "j.at_event",
        };
        format!("{column} {}", direction(is_descending))
    }

    /// All candidates in order, with these columns, as many as this says.
    fn candidates(&self, columns: &str, how_many: &str) -> String {
        let direction = direction(self.is_descending);
        match &self.from {
            From::Jobs(conditions) => {
                let of = |condition: &String| {
                    format!(
                        "SELECT {columns} FROM jobs AS j WHERE j.tenant = $1 AND {WITHIN} AND {condition} ORDER BY at_id {direction}"
                    )
                };
                if let [condition] = conditions.as_slice() {
                    return format!("{} {how_many}", of(condition));
                }
                // Each on its own in the order of its index, however few there seem to be: none is read further than all of them together.
                let each = conditions.iter().map(of);
                let each = each.map(|each| format!("({each} LIMIT {MAX_EXAMINED})"));
                let all = each.collect::<Vec<_>>().join(" UNION ALL ");
                format!("{all} ORDER BY at_id {direction} {how_many}")
            }
            From::Events(behind) => format!(
                "SELECT {columns} FROM events AS e WHERE {behind} ORDER BY e.xid {direction}, e.n {direction} {how_many}"
            ),
        }
    }

    /// The first `most` candidates that match, with the columns of `jobs`; and all values.
    fn matching(&self, query: &ListQuery, most: i64) -> (String, Vec<Value>) {
        let condition = filter::condition::<Postgres>(&query.filter, self.values.len() + 1);
        let limit = format!("LIMIT {MAX_EXAMINED}");
        let jobs = match &self.from {
            From::Jobs(_) => {
                let columns = "j.id AS at_id, NULL::bigint AS at_event, j.*";
                format!("({}) AS j", self.candidates(columns, &limit))
            }
            From::Events(_) => format!(
                "(SELECT NULL::uuid AS at_id, {AT_EVENT} AS at_event, j.* FROM ({candidates}) AS e
                 CROSS JOIN LATERAL (
                    SELECT * FROM jobs
                    WHERE e.tenant = $1 AND jobs.tenant = $1 AND jobs.id = e.job AND jobs.revision = e.revision OFFSET 0
                 ) AS j ORDER BY e.xid {direction}, e.n {direction}) AS j",
                candidates = self.candidates("e.tenant, e.job, e.revision, e.xid, e.n", &limit),
                direction = direction(self.is_descending),
            ),
        };
        let sql = format!(
            "SELECT j.* FROM {jobs} WHERE {} LIMIT {most}",
            condition.sql
        );
        let mut values = self.values.clone();
        values.extend(condition.values);
        (sql, values)
    }

    /// The last candidate, if there may be more behind it.
    fn last(&self) -> String {
        let last = format!("LIMIT 1 OFFSET {}", MAX_EXAMINED - 1);
        let columns = match self.from {
            From::Jobs(_) => "j.id AS at_id, NULL::bigint AS at_event".to_owned(),
            From::Events(_) => format!("NULL::uuid AS at_id, {AT_EVENT} AS at_event"),
        };
        self.candidates(&columns, &last)
    }
}

fn direction(is_descending: bool) -> &'static str {
    if is_descending { "DESC" } else { "ASC" }
}
