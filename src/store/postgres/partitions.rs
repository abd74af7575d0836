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
const ALL: &str = "SELECT low, high FROM partitions ORDER BY high";
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
    make_for(client, width, &[]).await
}

/// Makes the ranges that are missing, also these jobs'; whoever gave them their ids may have had a clock that was ahead.
pub(super) async fn make_for(
    client: &ClientWrapper,
    width: Duration,
    jobs: &[Uuid],
) -> Result<(), StoreError> {
    let made = alone(client, LOCK, async |now| {
        let mut there = Vec::new();
        for row in query(client, ALL, &[]).await? {
            there.push(Range {
                low: row.try_get::<_, Option<Uuid>>(0)?.map(time_of),
                high: time_of(row.try_get(1)?),
            });
        }
        let times = jobs.iter().copied().map(time_of);
        for range in missing(there, now, millis(width), times) {
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
            if is_empty(client, &format!("jobs_{name}")).await?
                && drop_one(client, name, low).await?
            {
                return Ok(true);
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

/// The ranges that have to be made beside those that are `there`. Where nobody was there to make them in time, one makes up for all. Times far ahead have
/// ranges of their own, no wider than others: those in between are made in time, and so all of them are over in time.
fn missing(
    mut there: Vec<Range>,
    now: i64,
    width: i64,
    times: impl IntoIterator<Item = i64>,
) -> Vec<Range> {
    let start = now - now.rem_euclid(width);
    let mut made = Vec::new();
    let mut make = |there: &mut Vec<Range>, range: Range| {
        there.push(range);
        made.push(range);
    };
    let is_begun = |range: &&Range| range.low.is_none_or(|low| low <= start);
    let end = there.iter().filter(is_begun).map(|range| range.high).max();
    let mut low = end.unwrap_or(start);
    if end.is_none_or(|end| end < start) {
        let high = start;
        make(&mut there, Range { low: end, high });
        low = start;
    }
    while low < now.saturating_add(width.saturating_mul(i64::from(AHEAD))) {
        low = match holder(&there, low) {
            Some(range) => range.high,
            None => {
                let high = low.saturating_add(width).min(next_begin(&there, low));
                make(
                    &mut there,
                    Range {
                        low: Some(low),
                        high,
                    },
                );
                high
            }
        };
    }
    for time in times {
        if time < low || holder(&there, time).is_some() {
            continue;
        }
        let begin = time - time.rem_euclid(width);
        let ended = there.iter().map(|range| range.high);
        let ended = ended.filter(|high| *high <= time).max();
        let range = Range {
            low: Some(begin.max(ended.unwrap_or(begin))),
            high: begin.saturating_add(width).min(next_begin(&there, time)),
        };
        make(&mut there, range);
    }
    made
}

/// The range that this time is in.
fn holder(ranges: &[Range], time: i64) -> Option<&Range> {
    ranges
        .iter()
        .find(|range| range.low.is_none_or(|low| low <= time) && time < range.high)
}

/// Where the next range begins behind a time that is in none.
fn next_begin(ranges: &[Range], time: i64) -> i64 {
    let begins = ranges.iter().filter_map(|range| range.low);
    begins.filter(|low| *low > time).min().unwrap_or(i64::MAX)
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
        let second = begin.strftime("%Y%m%dt%H%M%S");
        // One that goes up to another of a former width may be a short one.
        match begin.subsec_millisecond() {
            0 => second.to_string(),
            rest => format!("{second}_{rest:03}"),
        }
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

    fn range(low: i64, high: i64) -> Range {
        Range {
            low: Some(low),
            high,
        }
    }

    #[test]
    fn ranges_follow_one_another_and_reach_ahead() {
        let start = NOW - NOW % HOUR;
        let all = missing(Vec::new(), NOW, HOUR, []);
        assert_eq!(all[0].low, None);
        assert!(all.windows(2).all(|two| two[1].low == Some(two[0].high)));
        let current = all.iter().position(|range| range.low == Some(start));
        assert_eq!(current, Some(1));
        assert_eq!(all.len(), 2 + AHEAD as usize);

        let newest = all.last().map(|range| range.high).unwrap_or_default();
        assert_eq!(missing(all.clone(), NOW, HOUR, [NOW]), []);
        let later = missing(all, NOW + HOUR, HOUR, []);
        assert_eq!(later, [range(newest, newest + HOUR)]);
    }

    #[test]
    fn one_range_makes_up_for_a_long_absence() {
        let first = Range {
            low: None,
            high: NOW - 1_000 * HOUR,
        };
        let all = missing(vec![first], NOW, HOUR, []);
        assert_eq!(all[0].low, Some(first.high));
        assert!(all[0].high <= NOW && all[0].high > NOW - HOUR);
        assert_eq!(all.len(), 2 + AHEAD as usize);
    }

    #[test]
    fn what_was_dropped_is_not_made_again() {
        let mut all = missing(Vec::new(), NOW, HOUR, []);
        all[0].high -= 5 * HOUR;
        assert_eq!(missing(all, NOW, HOUR, []), []);
    }

    #[test]
    fn a_job_of_a_clock_that_is_ahead_has_a_range_and_those_before_it_are_made_in_time() {
        let all = missing(Vec::new(), NOW, HOUR, []);
        let newest = all.last().map(|range| range.high).unwrap_or_default();
        for ahead in [newest, newest + 1, newest + 1_000 * HOUR + 1] {
            // Two of one batch, of which the first is the earlier one.
            let times = [ahead, ahead + HOUR];
            let far = missing(all.clone(), NOW, HOUR, times);
            assert_eq!(far.len(), 2);
            for (range, time) in far.iter().zip(times) {
                assert!(range.low.is_some_and(|low| low <= time) && time < range.high);
                assert_eq!(range.low.map(|low| low + HOUR), Some(range.high));
            }
            let mut there = [&all[..], &far].concat();
            assert_eq!(missing(there.clone(), NOW, HOUR, times), []);
            // Time goes on, past the one far ahead, though the width has become another.
            for turn in 0..2_100 {
                let now = NOW + turn * HOUR / 2;
                there.extend(missing(there.clone(), now, HOUR * 2 / 3, []));
            }
            there.sort_unstable_by_key(|range| range.high);
            let is_run = |two: &[Range]| two[1].low == Some(two[0].high);
            assert!(there.windows(2).all(is_run), "{there:?}");
            assert!(
                there[1..]
                    .iter()
                    .all(|r| r.high - r.low.unwrap_or(0) <= HOUR)
            );
        }
    }

    #[test]
    fn ranges_of_one_second_have_names_of_their_own() {
        assert_ne!(name(&range(NOW, HOUR)), name(&range(NOW + 1, HOUR)));
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
