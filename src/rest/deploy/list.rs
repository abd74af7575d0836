//! The list of jobs: every match unless the caller wants fewer, read and sent page by page, so that its length costs no memory.

use std::{cmp::Reverse, collections::HashSet, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{StatusCode, header};
use schemars::JsonSchema;

use super::{JobRecord, STATES, projected, state, text, time};
use crate::{
    api::Fault,
    domain::{
        Job, JobId, Tenant,
        filter::{Filter, Order, Pattern},
        wording::{Sentence, sentence},
    },
    engine::{Anchor, Engine, EngineError, Selection, SortKey, SortValue, SortedSelection},
    locale::Language,
    rest::{
        answer::{self, JSON, Response},
        call::Call,
        dialect::Shared,
        pages::{Fits, Keys, Sorting},
        query::Query,
        terms::{self, Operator, Term, Terms},
    },
    store::{ListOrder, ListPosition},
};

/// Jobs that are read and sent at a time.
const PAGE: usize = 500;
/// Behind a job in the order of changes none is later by so much: what changed in one moment has no order in time.
const MOMENT: Duration = Duration::from_millis(1);

/// What a list can be filtered and sorted by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Id,
    State,
    Message,
    LastModified,
}

const FIELDS: [(&str, Field); 4] = [
    ("id", Field::Id),
    ("state", Field::State),
    ("message", Field::Message),
    ("last_modified", Field::LastModified),
];

/// The answer as a whole, which never is in one piece.
#[derive(JsonSchema)]
#[expect(
    dead_code,
    reason = "it is sent as it is read; this says what comes out"
)]
pub(super) struct List {
    records: Vec<JobRecord>,
    num_records: usize,
}

/// A list as it is asked for.
struct Asked {
    filter: Filter,
    /// And besides.
    fits: Option<Fits>,
    sorting: Sorting,
    most: usize,
}

/// What a parameter asks of a job.
enum Condition {
    Filter(Filter),
    Fits(Fits),
}

/// What one alternative of it asks.
enum Test {
    Known(Filter),
    /// Of the text that is shown.
    Like(Pattern),
    /// The same.
    Text(Order, String),
}

/// A list on its way to the caller.
struct Walk {
    engine: Engine,
    tenant: Tenant,
    filter: Filter,
    fits: Option<Fits>,
    way: Way,
    /// Jobs that may still be told.
    left: usize,
    told: usize,
    ended: bool,
    collection: &'static str,
    language: Language,
}

/// The order, and where the next page begins.
enum Way {
    Indexed(ListOrder, Option<ListPosition>),
    /// The last changed first, and no more than [`PAGE`]. A longer list would leave out what changes meanwhile.
    Latest,
    /// With what was told: a job that changes between two pages may have another place then, and is told once all the same. No more can be sorted than
    /// [`crate::engine::MAX_SORTED`].
    Sorted(Keys, Option<Anchor>, HashSet<JobId>),
}

/// Answers with the list.
pub(super) async fn list(shared: Shared, mut call: Call) -> Result<Response, Fault> {
    let language = call.caller.language;
    let asked = read(&mut call.query, language);
    call.query.finish()?;
    let mut walk = Walk {
        engine: shared.api.engine().clone(),
        tenant: call.caller.tenant.clone(),
        filter: asked.filter,
        fits: asked.fits,
        way: match asked.sorting {
            Sorting::Indexed(ListOrder::UpdateTimeDesc) => Way::Latest,
            Sorting::Indexed(order) => Way::Indexed(order, None),
            Sorting::Keys(keys) => Way::Sorted(keys, None, HashSet::new()),
        },
        left: asked.most,
        told: 0,
        ended: false,
        collection: super::collection(&call),
        language,
    };
    walk.fix_end().await?;
    // What goes wrong with the first page is still an answer of its own; later on it can only break the list off.
    let first = walk.piece().await?;
    let rest = stream::try_unfold(walk, |mut walk| async move {
        match walk.ended {
            true => Ok(None),
            false => match walk.piece().await {
                Ok(piece) => Ok(Some((piece, walk))),
                Err(error) => Err(std::io::Error::other(error)),
            },
        }
    });
    let body = Body::from_stream(stream::iter([Ok(first)]).chain(rest));
    let mut response = answer::empty(StatusCode::OK);
    *response.body_mut() = body;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    Ok(response)
}

impl Walk {
    /// The next piece of the answer. The number of the jobs stands behind them, because it is known then.
    async fn piece(&mut self) -> Result<Bytes, EngineError> {
        let mut piece = String::new();
        if self.told == 0 {
            piece.push_str("{\"records\":[");
        }
        let records = match self.way {
            Way::Latest => self.latest().await?,
            Way::Indexed(..) | Way::Sorted(..) => {
                let jobs = self.page().await?;
                jobs.iter().map(|job| self.record(job)).collect()
            }
        };
        for record in records {
            if self.told > 0 {
                piece.push(',');
            }
            piece.push_str(&record);
            self.told += 1;
        }
        if self.ended {
            piece.push_str(&format!("],\"num_records\":{}}}", self.told));
        }
        Ok(piece.into())
    }

    fn record(&self, job: &Job) -> String {
        text(&projected(job, self.collection, self.language))
    }

    /// A list that begins with the oldest would meet what is added meanwhile at its end, and might never get there. So it has one from the start.
    async fn fix_end(&mut self) -> Result<(), EngineError> {
        let Way::Indexed(ListOrder::CreateTime, _) = self.way else {
            return Ok(());
        };
        let newest = Selection {
            tenant: self.tenant.clone(),
            filter: Filter::All,
            order: ListOrder::CreateTimeDesc,
            after: None,
            limit: 1,
        };
        let newest = self.engine.select(newest, None).await?.jobs;
        let until = newest.first().map(|job| {
            // Ids are in the order of submission.
            Filter::Id(Order::LessOrEqual, job.id)
        });
        let filter = std::mem::replace(&mut self.filter, Filter::All);
        self.filter = Filter::And(vec![filter, until.unwrap_or_else(nothing)]);
        Ok(())
    }

    /// The jobs that changed last, as they are told, and with them the list is whole. Jobs of one moment are put in the order of their times, and the
    /// newer job first where these are the same, as in every list that is sorted.
    async fn latest(&mut self) -> Result<Vec<String>, EngineError> {
        let residual = self.fits.as_deref();
        let residual = residual.map(|fits| fits as &(dyn Fn(&Job) -> bool + Sync));
        let mut selection = Selection {
            tenant: self.tenant.clone(),
            filter: self.filter.clone(),
            order: ListOrder::UpdateTimeDesc,
            after: None,
            limit: PAGE,
        };
        let mut records = Vec::new();
        loop {
            let selected = self.engine.select(selection.clone(), residual).await?;
            for job in &selected.jobs {
                records.push((Reverse((job.update_time, job.id)), self.record(job)));
            }
            records.sort_unstable_by_key(|(at, _)| *at);
            records.truncate(self.left);
            let is_whole = records.len() == self.left;
            let least = records.last().map(|(Reverse((time, _)), _)| *time);
            let last = selected.jobs.last().map(|job| job.update_time);
            let is_past = least.zip(last);
            let is_past = is_past.is_some_and(|(least, last)| last.after(MOMENT) < least);
            selection.after = selected.next;
            if selection.after.is_none() || is_whole && is_past {
                break;
            }
        }
        self.ended = true;
        Ok(records.into_iter().map(|(_, record)| record).collect())
    }

    /// The next jobs. There are some, or there are no more.
    async fn page(&mut self) -> Result<Vec<Arc<Job>>, EngineError> {
        let residual = self.fits.as_deref();
        let residual = residual.map(|fits| fits as &(dyn Fn(&Job) -> bool + Sync));
        let (tenant, filter) = (self.tenant.clone(), self.filter.clone());
        loop {
            let (jobs, is_last) = match &mut self.way {
                Way::Indexed(order, after) => {
                    let selection = Selection {
                        tenant: tenant.clone(),
                        filter: filter.clone(),
                        order: *order,
                        after: *after,
                        limit: self.left.min(PAGE),
                    };
                    let selected = self.engine.select(selection, residual).await?;
                    *after = selected.next;
                    (selected.jobs, after.is_none())
                }
                // It has a way of its own.
                Way::Latest => (Vec::new(), true),
                Way::Sorted(keys, after, told) => {
                    let selection = SortedSelection {
                        tenant: tenant.clone(),
                        filter: filter.clone(),
                        residual,
                        keys: &**keys,
                        after: after.take(),
                        // Each page takes a look at all that match, so it is as large as may be.
                        limit: self.left,
                    };
                    let mut selected = self.engine.select_sorted(selection).await?;
                    *after = selected.next;
                    selected.jobs.retain(|job| told.insert(job.id));
                    (selected.jobs, after.is_none())
                }
            };
            self.left -= jobs.len();
            self.ended = is_last || self.left == 0;
            if self.ended || !jobs.is_empty() {
                return Ok(jobs);
            }
        }
    }
}

/// Reads the parameters; what is wrong with them is noted there.
fn read(query: &mut Query, language: Language) -> Asked {
    query.one("fields");
    let most = query.number::<u32>("max_records", 1..=u32::MAX);
    let most = most.map_or(usize::MAX, |most| most as usize);
    let mut filters = Vec::new();
    let mut fits: Vec<Fits> = Vec::new();
    for (name, field) in FIELDS {
        if let Some(value) = query.one(name) {
            match condition(field, &value, language) {
                Ok(Condition::Filter(filter)) => filters.push(filter),
                Ok(Condition::Fits(each)) => fits.push(each),
                Err(wrong) => query.bad(name, wrong),
            }
        }
    }
    let order = query.one("order_by").unwrap_or_default();
    let sorting = sorting(&order, most, language).unwrap_or_else(|wrong| {
        query.bad("order_by", wrong);
        Sorting::Indexed(ListOrder::CreateTimeDesc)
    });
    Asked {
        filter: Filter::And(filters),
        fits: match fits.is_empty() {
            true => None,
            false => Some(Box::new(move |job| fits.iter().all(|fits| fits(job)))),
        },
        sorting,
        most,
    }
}

fn condition(field: Field, value: &str, language: Language) -> Result<Condition, Sentence> {
    let terms = Terms::read(value)?;
    let tests = terms.any.iter().map(|term| test(field, term));
    let tests: Vec<Test> = tests.collect::<Result<_, _>>()?;
    let negated = terms.negated;
    if let Some(any) = tests.iter().map(Test::known).collect() {
        let any = Filter::Or(any);
        return Ok(Condition::Filter(match negated {
            true => Filter::Not(Box::new(any)),
            false => any,
        }));
    }
    Ok(Condition::Fits(Box::new(move |job| {
        let shown = field.shown(job, language);
        let fits = tests.iter().any(|test| match test {
            Test::Known(filter) => filter.matches(job),
            Test::Like(pattern) => pattern.matches(&shown),
            Test::Text(order, text) => order.holds(&shown, text),
        });
        fits != negated
    })))
}

impl Test {
    fn known(&self) -> Option<Filter> {
        match self {
            Self::Known(filter) => Some(filter.clone()),
            Self::Like(_) | Self::Text(..) => None,
        }
    }
}

/// What an alternative asks of a field. All fields have a value in every job.
fn test(field: Field, term: &Term) -> Result<Test, Sentence> {
    let Term::Compare(operator, text) = term else {
        return Ok(Test::Known(nothing()));
    };
    let is_pattern = *operator == Operator::Is && text.contains('*');
    Ok(match field {
        Field::State => {
            let text = text.to_ascii_lowercase();
            let pattern = is_pattern.then(|| Pattern::from_wildcard(&text));
            if pattern.is_none() && !STATES.iter().any(|(_, shown)| *shown == text) {
                return Err(sentence!(
                    "not-one-of",
                    "must be one of {options}",
                    options = "queued, running, success, failure"
                ));
            }
            Test::Known(terms::outcomes(|of, _| match &pattern {
                Some(pattern) => pattern.matches(state(of)),
                None => operator.order().holds(&state(of), &text.as_str()),
            }))
        }
        _ if is_pattern && text.chars().all(|c| c == '*') => Test::Known(Filter::All),
        _ if is_pattern => Test::Like(Pattern::from_wildcard(text)),
        Field::Id => match (text.parse().map(JobId), operator) {
            (Ok(id), operator) => Test::Known(Filter::Id(operator.order(), id)),
            // What is no id is no job's.
            (Err(_), Operator::Is) => Test::Known(nothing()),
            (Err(_), _) => return Err(Sentence::plain("a-uuid", "must be a UUID")),
        },
        Field::Message => Test::Text(operator.order(), text.clone()),
        Field::LastModified => match terms::moment(text) {
            Some(moment) => Test::Known(Filter::UpdateTime(operator.order(), moment)),
            None => return Err(terms::no_moment()),
        },
    })
}

fn nothing() -> Filter {
    Filter::Or(Vec::new())
}

fn sorting(text: &str, most: usize, language: Language) -> Result<Sorting, Sentence> {
    let mut fields = Vec::new();
    if !text.trim().is_empty() {
        for (name, descending) in terms::sort_fields(text)? {
            let known = FIELDS.iter().find(|(known, _)| *known == name);
            let Some((_, field)) = known else {
                let options = FIELDS.map(|(known, _)| known).join(", ");
                return Err(sentence!("not-one-of", "must be one of {options}", options));
            };
            fields.push((*field, descending));
        }
    }
    Ok(match fields.as_slice() {
        // Ids are in the order of submission, and no two are the same.
        [] | [(Field::Id, true), ..] => Sorting::Indexed(ListOrder::CreateTimeDesc),
        [(Field::Id, false), ..] => Sorting::Indexed(ListOrder::CreateTime),
        [(Field::LastModified, true)] if most <= PAGE => {
            Sorting::Indexed(ListOrder::UpdateTimeDesc)
        }
        _ => Sorting::Keys(Box::new(move |job| {
            let keys = fields.iter().map(|(field, descending)| {
                let value = match field {
                    Field::LastModified => SortValue::time(Some(job.update_time)),
                    field => SortValue::text(&field.shown(job, language)),
                };
                SortKey::new(value, *descending)
            });
            keys.collect()
        })),
    })
}

impl Field {
    /// As a record has it.
    fn shown(self, job: &Job, language: Language) -> String {
        match self {
            Self::Id => job.id.to_string(),
            Self::State => state(job.state).to_owned(),
            Self::Message => super::message::of(job, language),
            Self::LastModified => time(job.update_time),
        }
    }
}

#[cfg(test)]
mod tests;
