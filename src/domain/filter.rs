//! The filter of List and WatchJobs: AIP-160 over a whitelist of fields, as a predicate on jobs and as a tree that stores turn into queries.

mod pattern;

use aip_160::{Comparable, Comparator, Expression, Value, parse_filter};

pub use pattern::Pattern;

use super::{
    Job, JobId, JobState, Status, Timestamp,
    wording::{Sentence, sentence},
};

/// Bytes of a filter: longer ones are programs.
const MAX_FILTER_BYTES: usize = 4_096;
/// Comparisons in a filter: each is work for every candidate row.
const MAX_TERMS: usize = 50;

/// A checked filter.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Everything matches.
    All,
    /// Each of these matches.
    And(Vec<Filter>),
    /// At least one of these matches.
    Or(Vec<Filter>),
    /// This does not match.
    Not(Box<Filter>),
    /// The state compares so.
    State(Order, JobState),
    /// The status compares so.
    Status(Order, Status),
    /// A text matches.
    Text(Field, Pattern),
    /// A job has a label with this key.
    HasLabel(String),
    /// The parent is this job; `None` if the job has no parent.
    Parent(Option<JobId>),
    /// The priority compares so.
    Priority(Order, i32),
    /// The id compares so.
    Id(Order, JobId),
    /// The time of creation compares so.
    CreateTime(Order, Timestamp),
    /// The time of the first start compares so; a job that has not started matches no comparison.
    StartTime(Order, Timestamp),
    /// The time of the end compares so; a job that has not ended matches no comparison.
    EndTime(Order, Timestamp),
    /// The time of the last change compares so.
    UpdateTime(Order, Timestamp),
}

/// What changes of a job, as far as filters care, besides its update time.
struct Moment {
    state: JobState,
    status: Status,
    start_time: Option<Timestamp>,
    end_time: Option<Timestamp>,
}

/// A field that holds text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `action`
    Action,
    /// What [`super::JobSpec::kind`] says; the grammar has no name for it.
    Kind,
    /// `summary`
    Summary,
    /// `creator`
    Creator,
    /// `driver` of any task
    Driver,
    /// `object.type`
    ObjectType,
    /// `object.id`
    ObjectId,
    /// `object.name`
    ObjectName,
    /// `labels.KEY`
    Label(String),
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `=`
    Equal,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// Why a filter is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FilterError(Sentence);

impl From<FilterError> for Sentence {
    fn from(error: FilterError) -> Self {
        error.0
    }
}

/// What a filter may name, for error messages and documentation.
pub const FIELDS: &str = "job_id, state, status, action, summary, driver, object.type, object.id, object.name, labels.KEY, creator, parent_job_id, priority, \
     create_time, start_time, end_time, update_time";

impl Filter {
    /// Reads a filter; an empty one matches everything.
    ///
    /// # Errors
    /// The text is no AIP-160 filter, is too long, or compares a field that is not on the list or in a way that makes no sense for it.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > MAX_FILTER_BYTES {
            return Err(FilterError(sentence!(
                "too-long",
                "has {bytes} bytes; at most {most} are allowed",
                bytes = text.len(),
                most = MAX_FILTER_BYTES
            )));
        }
        let parsed = parse_filter(text)
            .map_err(|error| FilterError(Sentence::foreign(error.to_string())))?;
        let Some(expression) = parsed.expression else {
            return Ok(Self::All);
        };
        let mut terms = 0;
        convert(&expression, &mut terms)
    }

    /// Whether a job matches, as it is.
    pub fn matches(&self, job: &Job) -> bool {
        self.matches_at(
            job,
            &Moment {
                state: job.state,
                status: job.status,
                start_time: job.start_time,
                end_time: job.end_time,
            },
        )
    }

    /// Whether a job may have matched when it had this state and status. What else changes follows from these, but for its update time then, which is not
    /// known.
    pub fn may_have_matched(&self, job: &Job, state: JobState, status: Status) -> bool {
        let then = Moment {
            state,
            status,
            start_time: job.start_time.filter(|_| state != JobState::Queued),
            end_time: job.end_time.filter(|_| state.is_terminal()),
        };
        let matched = self.decided(&|part| match part {
            Self::UpdateTime(..) => None,
            part => Some(part.matches_at(job, &then)),
        });
        matched != Some(false)
    }

    fn matches_at(&self, job: &Job, at: &Moment) -> bool {
        let compare = |order: &Order, time: Option<Timestamp>, value| {
            time.is_some_and(|time| order.holds(&time, value))
        };
        match self {
            Self::All => true,
            Self::And(parts) => parts.iter().all(|part| part.matches_at(job, at)),
            Self::Or(parts) => parts.iter().any(|part| part.matches_at(job, at)),
            Self::Not(part) => !part.matches_at(job, at),
            Self::State(order, value) => order.holds(&at.state, value),
            Self::Status(order, value) => order.holds(&at.status, value),
            Self::Text(field, pattern) => field.any(job, |text| pattern.matches(text)),
            Self::HasLabel(key) => job.spec.labels.contains_key(key),
            Self::Parent(parent) => job.spec.parent == *parent,
            Self::Priority(order, value) => order.holds(&job.spec.priority, value),
            Self::Id(order, value) => order.holds(&job.id, value),
            Self::CreateTime(order, value) => order.holds(&job.create_time, value),
            Self::StartTime(order, value) => compare(order, at.start_time, value),
            Self::EndTime(order, value) => compare(order, at.end_time, value),
            Self::UpdateTime(order, value) => order.holds(&job.update_time, value),
        }
    }

    /// Whether a job with this outcome matches, if that can be told from the outcome alone.
    pub fn matches_outcome(&self, state: JobState, status: Status) -> Option<bool> {
        self.decided(&|part| match part {
            Self::State(order, value) => Some(order.holds(&state, value)),
            Self::Status(order, value) => Some(order.holds(&status, value)),
            _ => None,
        })
    }

    /// Whether it holds, by what is known of the comparisons that it is made of; `None` if that does not decide it.
    fn decided(&self, known: &impl Fn(&Self) -> Option<bool>) -> Option<bool> {
        let judge = |part: &Self| part.decided(known);
        match self {
            Self::All => Some(true),
            // What one part decides is decided, whatever the others would say.
            Self::And(parts) => all_of(parts.iter().map(judge)),
            Self::Or(parts) => {
                all_of(parts.iter().map(|part| judge(part).map(|m| !m))).map(|none| !none)
            }
            Self::Not(part) => judge(part).map(|matches| !matches),
            comparison => known(comparison),
        }
    }

    /// Whether the outcome of a job is all that decides, so that counters of outcomes know how many match.
    pub fn is_about_outcome(&self) -> bool {
        JobState::ALL.iter().all(|state| {
            Status::ALL
                .iter()
                .all(|status| self.matches_outcome(*state, *status).is_some())
        })
    }
}

/// Whether all hold: one that does not is enough to tell, one that is unknown leaves it open otherwise.
fn all_of(mut parts: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    parts
        .try_fold(Some(true), |so_far, part| match part {
            Some(true) => Ok(so_far),
            None => Ok(None),
            Some(false) => Err(Some(false)),
        })
        .unwrap_or_else(|decided| decided)
}

impl Order {
    /// Whether `left` compares so with `right`.
    pub fn holds<T: Ord>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

impl Field {
    fn any(&self, job: &Job, test: impl Fn(&str) -> bool) -> bool {
        let object = |part: fn(&super::task::Object) -> &String| {
            test(job.spec.object.as_ref().map_or("", |o| part(o)))
        };
        match self {
            Self::Action => test(&job.spec.action),
            Self::Kind => test(&job.spec.kind()),
            Self::Summary => test(&job.spec.summary),
            Self::Creator => test(&job.spec.creator),
            Self::Driver => job.tasks.iter().any(|t| test(&t.spec.driver)),
            Self::ObjectType => object(|o| &o.kind),
            Self::ObjectId => object(|o| &o.id),
            Self::ObjectName => object(|o| &o.name),
            Self::Label(key) => job.spec.labels.get(key).is_some_and(|value| test(value)),
        }
    }
}

fn convert(expression: &Expression, terms: &mut usize) -> Result<Filter, FilterError> {
    let mut all = |parts: &[Expression]| -> Result<Vec<Filter>, FilterError> {
        parts.iter().map(|part| convert(part, terms)).collect()
    };
    match expression {
        Expression::And(parts) | Expression::Sequence(parts) => Ok(Filter::And(all(parts)?)),
        Expression::Or(parts) => Ok(Filter::Or(all(parts)?)),
        Expression::Not(part) => Ok(Filter::Not(Box::new(convert(part, terms)?))),
        Expression::Restriction(restriction) => {
            *terms += 1;
            if *terms > MAX_TERMS {
                return Err(FilterError(sentence!(
                    "too-many-comparisons",
                    "has more than {most} comparisons",
                    most = MAX_TERMS
                )));
            }
            let path = restriction
                .comparable
                .as_member()
                .map(|m| {
                    std::iter::once(&m.value)
                        .chain(&m.fields)
                        .map(Value::as_str)
                        .collect::<Vec<_>>()
                        .join(".")
                })
                .ok_or_else(no_functions)?;
            let value = restriction.arg.as_value().ok_or_else(|| {
                FilterError(sentence!(
                    "plain-value",
                    "{path} must be compared with a plain value",
                    path
                ))
            })?;
            compare(&path, restriction.comparator, value)
        }
        Expression::Global(Comparable::Member(member)) => Err(FilterError(sentence!(
            "compared-with-nothing",
            "{member} is compared with nothing; write FIELD = VALUE, with a FIELD of {fields}",
            member = member.to_string(),
            fields = FIELDS
        ))),
        Expression::Global(Comparable::Function(_)) => Err(no_functions()),
    }
}

fn no_functions() -> FilterError {
    FilterError(Sentence::plain(
        "no-functions",
        "functions are not supported",
    ))
}

fn compare(path: &str, comparator: Comparator, value: &Value) -> Result<Filter, FilterError> {
    let field = match path {
        "action" => Field::Action,
        "summary" => Field::Summary,
        "creator" => Field::Creator,
        "driver" => Field::Driver,
        "object.type" => Field::ObjectType,
        "object.id" => Field::ObjectId,
        "object.name" => Field::ObjectName,
        "labels" if comparator == Comparator::Has => {
            return Ok(Filter::HasLabel(value.as_str().to_owned()));
        }
        "state" => {
            return ordered(
                comparator,
                named(path, value, &JobState::ALL, JobState::name)?,
                Filter::State,
            );
        }
        "status" => {
            return ordered(
                comparator,
                named(path, value, &Status::ALL, Status::name)?,
                Filter::Status,
            );
        }
        "priority" => {
            let number = value.as_str().parse().map_err(|_| {
                FilterError(sentence!(
                    "filter-number",
                    "{path}: {value} is not a whole number",
                    path,
                    value = value.to_string()
                ))
            })?;
            return ordered(comparator, number, Filter::Priority);
        }
        "create_time" => return ordered(comparator, moment(path, value)?, Filter::CreateTime),
        "start_time" => return ordered(comparator, moment(path, value)?, Filter::StartTime),
        "end_time" => return ordered(comparator, moment(path, value)?, Filter::EndTime),
        "update_time" => return ordered(comparator, moment(path, value)?, Filter::UpdateTime),
        "job_id" => {
            return equality(
                path,
                comparator,
                Filter::Id(Order::Equal, job_id(path, value)?),
            );
        }
        "parent_job_id" => {
            let parent = match value.as_str() {
                "" => None,
                _ => Some(job_id(path, value)?),
            };
            return equality(path, comparator, Filter::Parent(parent));
        }
        other => match other.strip_prefix("labels.") {
            Some(key) => Field::Label(key.to_owned()),
            None => {
                return Err(FilterError(sentence!(
                    "no-field",
                    "there is no field {other:?}; the fields are {fields}",
                    other,
                    fields = FIELDS
                )));
            }
        },
    };
    let pattern = match value {
        Value::Text(text) => Pattern::Exact(text.clone()),
        Value::String(text) => {
            let from_end = text.len() > 1 && text.ends_with('*');
            match (text.strip_prefix('*'), from_end) {
                (Some(rest), true) => Pattern::Contains(rest[..rest.len() - 1].to_owned()),
                (Some(rest), false) => Pattern::Suffix(rest.to_owned()),
                (None, true) => Pattern::Prefix(text[..text.len() - 1].to_owned()),
                (None, false) => Pattern::Exact(text.clone()),
            }
        }
    };
    if let (Comparator::Has, Pattern::Exact(text)) = (comparator, &pattern) {
        let has = match text.as_str() {
            "*" => Pattern::Contains(String::new()),
            text => Pattern::Contains(text.to_owned()),
        };
        return Ok(Filter::Text(field, has));
    }
    equality(path, comparator, Filter::Text(field, pattern))
}

/// For fields that can be equal or not, and nothing else.
fn equality(path: &str, comparator: Comparator, equal: Filter) -> Result<Filter, FilterError> {
    match comparator {
        Comparator::Equal | Comparator::Has => Ok(equal),
        Comparator::NotEqual => Ok(Filter::Not(Box::new(equal))),
        Comparator::LessThan
        | Comparator::LessThanOrEqual
        | Comparator::GreaterThan
        | Comparator::GreaterThanOrEqual => Err(FilterError(sentence!(
            "no-order",
            "{path} can be compared with =, != and :, not with {comparator}",
            path,
            comparator = comparator.to_string()
        ))),
    }
}

/// For fields that have an order.
fn ordered<T>(
    comparator: Comparator,
    value: T,
    make: fn(Order, T) -> Filter,
) -> Result<Filter, FilterError> {
    Ok(match comparator {
        Comparator::Equal | Comparator::Has => make(Order::Equal, value),
        Comparator::NotEqual => Filter::Not(Box::new(make(Order::Equal, value))),
        Comparator::LessThan => make(Order::Less, value),
        Comparator::LessThanOrEqual => make(Order::LessOrEqual, value),
        Comparator::GreaterThan => make(Order::Greater, value),
        Comparator::GreaterThanOrEqual => make(Order::GreaterOrEqual, value),
    })
}

fn named<T: Copy>(
    path: &str,
    value: &Value,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<T, FilterError> {
    all.iter()
        .copied()
        .find(|v| name(*v).eq_ignore_ascii_case(value.as_str()))
        .ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|v| name(*v)).collect();
            FilterError(sentence!(
                "none-of",
                "{path}: {value} is none of {names}",
                path,
                value = value.to_string(),
                names = names.join(", ")
            ))
        })
}

fn job_id(path: &str, value: &Value) -> Result<JobId, FilterError> {
    let id = value.as_str().parse().map(JobId);
    id.map_err(|_| {
        FilterError(sentence!(
            "filter-uuid",
            "{path}: {value} is not a UUID",
            path,
            value = value.to_string()
        ))
    })
}

fn moment(path: &str, value: &Value) -> Result<Timestamp, FilterError> {
    value
        .as_str()
        .parse::<jiff::Timestamp>()
        .map(|moment| Timestamp::from_micros(moment.as_microsecond()))
        .map_err(|_| {
            FilterError(sentence!(
                "filter-time",
                "{path}: {value} is not a time such as {example}",
                path,
                value = value.to_string(),
                example = "\"2026-01-31T12:00:00Z\""
            ))
        })
}
