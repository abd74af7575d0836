//! A filter as a condition of SQL, with the meaning of [`Filter::matches`] to the letter. Values are bound, never spliced in; no condition is ever NULL,
//! so that NOT means not.
//!
//! What databases say differently is a [`Dialect`]; the rest is the same for all.

use std::marker::PhantomData;

use uuid::Uuid;

use super::rows::Coded;
use crate::domain::{
    JobId, JobState, Status, Timestamp,
    filter::{Field, Filter, Order, Pattern},
};

/// The value of a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
    Id(Uuid),
}

/// How a database says it.
pub(crate) trait Dialect {
    /// A condition that always holds.
    const TRUE: &'static str;
    /// One that never does.
    const FALSE: &'static str;
    /// The parameter with this number, for such a value.
    fn parameter(number: usize, value: &Value) -> String;
    /// Whether the labels of a job have this key; and, if a pattern is given, whether its value matches.
    fn label(values: &mut Values<Self>, key: &str, pattern: Option<&Pattern>) -> String;
    /// Whether a text, which is not NULL, matches.
    fn matches(values: &mut Values<Self>, text: &str, pattern: &Pattern) -> String;
}

/// A condition on `jobs AS j`, and the values of its parameters.
#[derive(Debug)]
pub(crate) struct Condition {
    /// Goes behind WHERE.
    pub(crate) sql: String,
    /// For its parameters, in order.
    pub(crate) values: Vec<Value>,
}

/// Turns a filter into SQL whose parameters are numbered from `first` on.
pub(crate) fn condition<D: Dialect>(filter: &Filter, first: usize) -> Condition {
    let mut values = Values::<D> {
        first,
        values: Vec::new(),
        dialect: PhantomData,
    };
    let sql = emit(&mut values, filter);
    Condition {
        sql,
        values: values.values,
    }
}

/// The states that a job can be in if the filter is to match; maybe too many, never too few.
pub(crate) fn possible_states(filter: &Filter) -> Vec<JobState> {
    let may_match = |state: &JobState| {
        let mut statuses = Status::ALL.iter();
        statuses.any(|status| filter.matches_outcome(*state, *status) != Some(false))
    };
    JobState::ALL.into_iter().filter(may_match).collect()
}

/// The parent that a job must have if the filter is to match.
pub(crate) fn required_parent(filter: &Filter) -> Option<JobId> {
    match filter {
        Filter::Parent(parent) => *parent,
        Filter::And(parts) => parts.iter().find_map(required_parent),
        _ => None,
    }
}

/// The ids of which a job must have one if the filter is to match, each once.
pub(crate) fn required_ids(filter: &Filter) -> Option<Vec<JobId>> {
    match filter {
        Filter::Id(Order::Equal, id) => Some(vec![*id]),
        Filter::And(parts) => parts.iter().find_map(required_ids),
        Filter::Or(parts) => {
            let each: Option<Vec<_>> = parts.iter().map(required_ids).collect();
            let mut ids = each?.concat();
            ids.sort_unstable();
            ids.dedup();
            (1..=MAX_IDS).contains(&ids.len()).then_some(ids)
        }
        _ => None,
    }
}

/// Between which ids a job's must be if the filter is to match, both of them left out.
pub(crate) fn id_bounds(filter: &Filter) -> (Uuid, Uuid) {
    // No id is the smallest or the largest UUID.
    let (mut low, mut high) = (Uuid::nil(), Uuid::max());
    match filter {
        Filter::Id(Order::Greater, id) => low = id.0,
        Filter::Id(Order::GreaterOrEqual, id) => {
            low = Uuid::from_u128(id.0.as_u128().saturating_sub(1));
        }
        Filter::Id(Order::Less, id) => high = id.0,
        Filter::Id(Order::LessOrEqual, id) => {
            high = Uuid::from_u128(id.0.as_u128().saturating_add(1));
        }
        Filter::And(parts) => {
            for (from, to) in parts.iter().map(id_bounds) {
                (low, high) = (low.max(from), high.min(to));
            }
        }
        Filter::Or(parts) => {
            let each = parts.iter().map(id_bounds);
            let widest = |(a, b): (Uuid, Uuid), (from, to)| (a.min(from), b.max(to));
            return each.reduce(widest).unwrap_or((low, high));
        }
        _ => {}
    }
    (low, high)
}

/// As [`crate::domain::JobSpec::kind`].
const KIND: &str = "(j.action || CASE WHEN coalesce(j.object_type, '') = '' THEN '' ELSE '_' || j.object_type END)";
/// Ids that are looked for one by one: SQLite has a limit on the parts of a statement.
const MAX_IDS: usize = 100;

/// The values that a condition has bound so far.
pub(crate) struct Values<D: ?Sized> {
    first: usize,
    values: Vec<Value>,
    dialect: PhantomData<D>,
}

impl<D: Dialect> Values<D> {
    /// Takes a value; answers the parameter that stands for it.
    pub(crate) fn bind(&mut self, value: Value) -> String {
        let number = self.first + self.values.len();
        let parameter = D::parameter(number, &value);
        self.values.push(value);
        parameter
    }
}

fn emit<D: Dialect>(values: &mut Values<D>, filter: &Filter) -> String {
    let integer = Value::Integer;
    match filter {
        Filter::All => D::TRUE.into(),
        Filter::And(parts) => join(values, parts, " AND ", D::TRUE),
        Filter::Or(parts) => join(values, parts, " OR ", D::FALSE),
        // Two of them cancel out: SQLite has a limit on the depth of a condition, a filter has none.
        Filter::Not(part) => match part.as_ref() {
            Filter::Not(inner) => emit(values, inner),
            part => format!("NOT {}", emit(values, part)),
        },
        Filter::State(order, state) => compare(values, "j.state", *order, integer(state.code())),
        Filter::Status(order, status) => {
            compare(values, "j.status", *order, integer(status.code()))
        }
        Filter::Priority(order, value) => {
            compare(values, "j.priority", *order, integer(i64::from(*value)))
        }
        Filter::CreateTime(order, time) => {
            compare(values, "j.create_time", *order, integer(time.as_micros()))
        }
        Filter::StartTime(order, time) => moment(values, "j.start_time", *order, *time),
        Filter::EndTime(order, time) => moment(values, "j.end_time", *order, *time),
        Filter::UpdateTime(order, time) => {
            compare(values, "j.update_time", *order, integer(time.as_micros()))
        }
        Filter::Id(order, id) => compare(values, "j.id", *order, Value::Id(id.0)),
        Filter::Parent(None) => "(j.parent IS NULL)".into(),
        Filter::Parent(Some(parent)) => {
            let parent = values.bind(Value::Id(parent.0));
            format!("(j.parent IS NOT NULL AND j.parent = {parent})")
        }
        Filter::HasLabel(key) => D::label(values, key, None),
        Filter::Text(field, pattern) => text(values, field, pattern),
    }
}

fn join<D: Dialect>(
    values: &mut Values<D>,
    parts: &[Filter],
    operator: &str,
    none: &str,
) -> String {
    match parts {
        [] => none.into(),
        [part] => emit(values, part),
        parts => {
            let parts: Vec<String> = parts.iter().map(|part| emit(values, part)).collect();
            format!("({})", parts.join(operator))
        }
    }
}

/// Compares a time that may not be there yet.
fn moment<D: Dialect>(
    values: &mut Values<D>,
    column: &str,
    order: Order,
    time: Timestamp,
) -> String {
    let compared = compare(values, column, order, Value::Integer(time.as_micros()));
    format!("({column} IS NOT NULL AND {compared})")
}

fn compare<D: Dialect>(values: &mut Values<D>, column: &str, order: Order, value: Value) -> String {
    let operator = match order {
        Order::Equal => "=",
        Order::Less => "<",
        Order::LessOrEqual => "<=",
        Order::Greater => ">",
        Order::GreaterOrEqual => ">=",
    };
    format!("({column} {operator} {})", values.bind(value))
}

fn text<D: Dialect>(values: &mut Values<D>, field: &Field, pattern: &Pattern) -> String {
    let column = match field {
        Field::Action => "j.action",
        Field::Kind => KIND,
        Field::Summary => "j.summary",
        Field::Creator => "j.creator",
        Field::ObjectType => "coalesce(j.object_type, '')",
        Field::ObjectId => "coalesce(j.object_id, '')",
        Field::ObjectName => "coalesce(j.object_name, '')",
        Field::Driver => {
            let matches = D::matches(values, "t.driver", pattern);
            return format!(
                "EXISTS (SELECT 1 FROM tasks AS t WHERE t.tenant = j.tenant AND t.job = j.id AND {matches})"
            );
        }
        Field::Label(key) => return D::label(values, key, Some(pattern)),
    };
    D::matches(values, column, pattern)
}
