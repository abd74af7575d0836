//! The ranges of job ids into which jobs, tasks and events are cut, by time of creation: made ahead of time, and dropped when none of their jobs is left.
//!
//! Any node does it, one at a time; nobody waits for a lock that others hold for long, and what can not be done now is done later.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use uuid::Uuid;

use super::session::{query, query_one};
use crate::store::StoreError;

/// Ranges that are ready for jobs to come, besides the one of now.
const AHEAD: u32 = 2;
/// How far a node's clock may be behind: what is older gets no new jobs.
const LATEST: Duration = Duration::from_secs(3_600);
/// Who makes and drops ranges. "LngHpart".
pub(super) const LOCK: i64 = 0x4c6e_6748_7061_7274;
/// What holds others up must not take long. Whoever is in the way is not waited for.
const BEGIN: &str = "BEGIN; SET LOCAL lock_timeout = '100ms'; SET LOCAL statement_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '5s'";
const NOW: &str =
    "SELECT pg_try_advisory_xact_lock($1), (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
const NEWEST: &str = "SELECT high FROM partitions ORDER BY high DESC LIMIT 1";
const PAST: &str = "SELECT name, low FROM partitions WHERE high < $1 ORDER BY high";

/// The tables that are cut, with what each partition is set to.
///
/// Open jobs change a few times and then never again: room in each page for the next version of a row spares the indexes, and vacuum has to come by while
/// a range is young. `toast_tuple_target`: payloads and results go out of the way of what changes. Scale factors are those of a table that grows fast:
/// by the usual ones, vacuum would come by when a fifth of it is dead.
const TABLES: [(&str, &str); 3] = [
    (
        "jobs",
        "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1,
         autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 2",
    ),
    (
        "tasks",
        "fillfactor = 70, toast_tuple_target = 1024, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.1,
         autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 2",
    ),
    (
        "events",
        "autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 2",
    ),
];

/// Makes the ranges that are missing.
pub(super) async fn make(client: &ClientWrapper, width: Duration) -> Result<(), StoreError> {
    make_for(client, width, Uuid::nil()).await
}

/// Makes the ranges that are missing, as far as this job's; whoever gave it its id may have had a clock that was ahead.
pub(super) async fn make_for(
    client: &ClientWrapper,
    width: Duration,
    job: Uuid,
) -> Result<(), StoreError> {
    let made = alone(client, LOCK, async |now| {
        let newest = query(client, NEWEST, &[]).await?;
        let newest: Option<Uuid> = newest.first().map(|row| row.try_get(0)).transpose()?;
        for range in missing(newest, now, millis(width), time_of(job)) {
            make_one(client, &range).await?;
        }
        Ok(())
    })
    .await?;
    if made.is_none() {
        tracing::debug!("another node makes or drops ranges of jobs just now");
    }
    Ok(())
}

/// Drops the oldest range of which no job is left, with all that is left of theirs; answers whether there was one.
pub(super) async fn drop_empty(client: &ClientWrapper) -> Result<bool, StoreError> {
    let dropped = alone(client, LOCK, async |now| {
        let past = first_id(now.saturating_sub(millis(LATEST)));
        for row in query(client, PAST, &[&past]).await? {
            let (name, low): (&str, Option<Uuid>) = (row.try_get(0)?, row.try_get(1)?);
            if is_empty(client, &format!("jobs_{name}")).await? {
                if drop_one(client, name, low).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    })
    .await?;
    Ok(dropped.unwrap_or(false))
}

async fn is_empty(client: &ClientWrapper, table: &str) -> Result<bool, StoreError> {
    let found = client
        .query_one(&format!("SELECT EXISTS (SELECT 1 FROM {table})"), &[])
        .await?;
    Ok(!found.try_get::<_, bool>(0)?)
}

/// In a transaction with this lock, which one node has at a time; nothing if others have it.
pub(super) async fn alone<T>(
    client: &ClientWrapper,
    lock: i64,
    work: impl AsyncFnOnce(i64) -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    client.batch_execute(BEGIN).await?;
    let done: Result<Option<T>, StoreError> = async {
        let row = query_one(client, NOW, &[&lock]).await?;
        match row.try_get(0)? {
            true => Ok(Some(work(row.try_get(1)?).await?)),
            false => Ok(None),
        }
    }
    .await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await;
    let done = done?;
    ended?;
    Ok(done)
}

/// A range of ids: from `low`, or from the beginning, up to but without `high`; both in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    low: Option<i64>,
    high: i64,
}

/// The ranges that have to be made. Where nobody was there to make them in time, one makes up for all; and one is as wide as it takes to `reach` a time
/// beyond them.
fn missing(newest: Option<Uuid>, now: i64, width: i64, reach: i64) -> Vec<Range> {
    let start = now - now.rem_euclid(width);
    let mut ranges = Vec::new();
    let mut end = newest.map(time_of);
    if end.is_none_or(|end| end < start) {
        ranges.push(Range {
            low: end,
            high: start,
        });
        end = Some(start);
    }
    let mut low = end.unwrap_or(start);
    while low < now.saturating_add(width.saturating_mul(i64::from(AHEAD))) {
        let high = low.saturating_add(width);
        ranges.push(Range {
            low: Some(low),
            high,
        });
        low = high;
    }
    if reach >= low {
        let high = reach - reach.rem_euclid(width);
        ranges.push(Range {
            low: Some(low),
            high: high.saturating_add(width),
        });
    }
    ranges
}

async fn make_one(client: &ClientWrapper, range: &Range) -> Result<(), StoreError> {
    let name = name(range);
    let high = first_id(range.high);
    let from = range
        .low
        .map_or("MINVALUE".to_owned(), |low| format!("'{}'", first_id(low)));
    let mut sql = String::new();
    for (table, settings) in TABLES {
        // Not PARTITION OF, which would wait for all who use the table, and have all others wait behind it.
        sql += &format!(
            "CREATE TABLE {table}_{name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE) WITH ({settings});
             ALTER TABLE {table} ATTACH PARTITION {table}_{name} FOR VALUES FROM ({from}) TO ('{high}');"
        );
    }
    client.batch_execute(&sql).await?;
    let low = range.low.map(first_id);
    let insert = "INSERT INTO partitions (name, low, high) VALUES ($1, $2, $3)";
    query(client, insert, &[&name, &low, &high]).await?;
    Ok(())
}

/// Empties the tables of a range, and drops them unless it is the one of all that is older than the rest.
async fn drop_one(
    client: &ClientWrapper,
    name: &str,
    low: Option<Uuid>,
) -> Result<bool, StoreError> {
    let each = TABLES.map(|(table, _)| format!("{table}_{name}"));
    if low.is_none() {
        let [jobs, tasks, events] = &each;
        if is_empty(client, tasks).await? && is_empty(client, events).await? {
            return Ok(false);
        }
        let lock = format!("LOCK TABLE {jobs}, {tasks}, {events} IN ACCESS EXCLUSIVE MODE");
        client.batch_execute(&lock).await?;
        // Who was waited for may have stored one.
        if is_empty(client, jobs).await? {
            let empty = format!("TRUNCATE {tasks}, {events}");
            client.batch_execute(&empty).await?;
        }
        return Ok(false);
    }
    let lock = "LOCK TABLE jobs, tasks, events IN ACCESS EXCLUSIVE MODE";
    client.batch_execute(lock).await?;
    if !is_empty(client, &each[0]).await? {
        return Ok(false);
    }
    let drop = format!("DROP TABLE {}", each.join(", "));
    client.batch_execute(&drop).await?;
    let forget = "DELETE FROM partitions WHERE name = $1";
    query(client, forget, &[&name]).await?;
    tracing::info!(
        range = name,
        "dropped a range of jobs of which none is left"
    );
    Ok(true)
}

/// What its tables end with: the time at which it begins.
fn name(range: &Range) -> String {
    let begin = range
        .low
        .and_then(|low| jiff::Timestamp::from_millisecond(low).ok());
    begin.map_or("first".to_owned(), |begin| {
        begin.strftime("%Y%m%dt%H%M%S").to_string()
    })
}

/// The smallest id that a job of this time can have.
pub(super) fn first_id(millis: i64) -> Uuid {
    Uuid::from_u128(u128::from(millis.unsigned_abs()) << 80)
}

/// The time at which an id was given.
fn time_of(id: Uuid) -> i64 {
    i64::try_from(id.as_u128() >> 80).unwrap_or(i64::MAX)
}

pub(super) fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranges of an hour.
    const HOUR: i64 = 3_600_000;
    const NOW: i64 = 1_700_000_000_000;

    #[test]
    fn ranges_follow_one_another_and_reach_ahead() {
        let start = NOW - NOW % HOUR;
        let all = missing(None, NOW, HOUR, 0);
        assert_eq!(all[0].low, None);
        assert!(all.windows(2).all(|two| two[1].low == Some(two[0].high)));
        let current = all.iter().position(|range| range.low == Some(start));
        assert_eq!(current, Some(1));
        assert_eq!(all.len(), 2 + AHEAD as usize);

        let newest = all.last().map(|range| range.high).unwrap_or_default();
        assert_eq!(missing(Some(first_id(newest)), NOW, HOUR, NOW), []);
        let later = missing(Some(first_id(newest)), NOW + HOUR, HOUR, 0);
        assert_eq!(
            later,
            [Range {
                low: Some(newest),
                high: newest + HOUR
            }]
        );
    }

    #[test]
    fn one_range_makes_up_for_a_long_absence() {
        let newest = NOW - 1_000 * HOUR;
        let all = missing(Some(first_id(newest)), NOW, HOUR, 0);
        assert_eq!(all[0].low, Some(newest));
        assert!(all[0].high <= NOW && all[0].high > NOW - HOUR);
        assert_eq!(all.len(), 2 + AHEAD as usize);
    }

    #[test]
    fn one_range_reaches_a_job_of_a_clock_that_is_ahead() {
        let all = missing(None, NOW, HOUR, 0);
        let newest = all.last().map(|range| range.high).unwrap_or_default();
        for ahead in [newest, newest + 1, newest + 1_000 * HOUR] {
            let far = missing(Some(first_id(newest)), NOW, HOUR, ahead);
            assert!(matches!(far[..], [Range { low: Some(low), high }]
                if low == newest && high > ahead && high <= ahead + HOUR));
            assert_eq!(missing(None, NOW, HOUR, ahead), [&all[..], &far].concat());
        }
    }

    #[test]
    fn an_id_is_in_the_range_of_its_time() {
        let id =
            uuid::Builder::from_unix_timestamp_millis(NOW.unsigned_abs(), &[7; 10]).into_uuid();
        assert!(id >= first_id(NOW) && id < first_id(NOW + 1));
        assert_eq!(time_of(id), NOW);
        let range = Range {
            low: Some(NOW),
            high: NOW + HOUR,
        };
        assert_eq!(name(&range), "20231114t221320");
    }
}
