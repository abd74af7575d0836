//! A filter as a condition of SQL, with the meaning of [`Filter::matches`] to the letter. Values are bound, never spliced in; no condition is ever NULL,
//! so that NOT means not.

use rusqlite::types::Value;

use crate::{
    domain::{
        JobId, JobState, Status,
        filter::{Field, Filter, Order, Pattern},
    },
    store::rows::Coded,
};

/// A condition on `jobs AS j`, and the values of its parameters.
#[derive(Debug)]
pub(super) struct Condition {
    /// Goes behind WHERE.
    pub(super) sql: String,
    /// For its parameters, in order.
    pub(super) values: Vec<Value>,
}

/// Turns a filter into SQL whose parameters are numbered from `first` on.
pub(super) fn condition(filter: &Filter, first: usize) -> Condition {
    let mut emitter = Emitter {
        first,
        values: Vec::new(),
    };
    let sql = emitter.emit(filter);
    Condition {
        sql,
        values: emitter.values,
    }
}

/// The states that a job can be in if the filter is to match; maybe too many, never too few.
pub(super) fn possible_states(filter: &Filter) -> Vec<JobState> {
    let may_match = |state: &JobState| {
        let mut statuses = Status::ALL.iter();
        statuses.any(|status| filter.matches_outcome(*state, *status) != Some(false))
    };
    JobState::ALL.into_iter().filter(may_match).collect()
}

/// The parent that a job must have if the filter is to match.
pub(super) fn required_parent(filter: &Filter) -> Option<JobId> {
    match filter {
        Filter::Parent(parent) => *parent,
        Filter::And(parts) => parts.iter().find_map(required_parent),
        _ => None,
    }
}

struct Emitter {
    first: usize,
    values: Vec<Value>,
}

impl Emitter {
    fn emit(&mut self, filter: &Filter) -> String {
        match filter {
            Filter::All => "1".into(),
            Filter::And(parts) => self.join(parts, " AND ", "1"),
            Filter::Or(parts) => self.join(parts, " OR ", "0"),
            // Two of them cancel out: SQLite has a limit on the depth of a condition, a filter has none.
            Filter::Not(part) => match part.as_ref() {
                Filter::Not(inner) => self.emit(inner),
                part => format!("NOT {}", self.emit(part)),
            },
            Filter::State(order, state) => self.compare("j.state", *order, state.code()),
            Filter::Status(order, status) => self.compare("j.status", *order, status.code()),
            Filter::Priority(order, value) => self.compare("j.priority", *order, i64::from(*value)),
            Filter::CreateTime(order, time) => {
                self.compare("j.create_time", *order, time.as_micros())
            }
            Filter::UpdateTime(order, time) => {
                self.compare("j.update_time", *order, time.as_micros())
            }
            Filter::Parent(None) => "(j.parent IS NULL)".into(),
            Filter::Parent(Some(parent)) => {
                let parent = self.bind(parent.0.as_bytes().to_vec());
                format!("(j.parent IS {parent})")
            }
            Filter::HasLabel(key) => {
                let key = self.bind(key.clone());
                format!("EXISTS (SELECT 1 FROM json_each(j.labels) AS l WHERE l.key = {key})")
            }
            Filter::Text(field, pattern) => self.text(field, pattern),
        }
    }

    fn join(&mut self, parts: &[Filter], operator: &str, none: &str) -> String {
        match parts {
            [] => none.into(),
            [part] => self.emit(part),
            parts => {
                let parts: Vec<String> = parts.iter().map(|part| self.emit(part)).collect();
                format!("({})", parts.join(operator))
            }
        }
    }

    fn compare(&mut self, column: &str, order: Order, value: i64) -> String {
        let operator = match order {
            Order::Equal => "=",
            Order::Less => "<",
            Order::LessOrEqual => "<=",
            Order::Greater => ">",
            Order::GreaterOrEqual => ">=",
        };
        format!("({column} {operator} {})", self.bind(value))
    }

    fn text(&mut self, field: &Field, pattern: &Pattern) -> String {
        match field {
            Field::Action => self.pattern("j.action", pattern),
            Field::Creator => self.pattern("j.creator", pattern),
            Field::ObjectType => self.pattern("coalesce(j.object_type, '')", pattern),
            Field::ObjectId => self.pattern("coalesce(j.object_id, '')", pattern),
            Field::ObjectName => self.pattern("coalesce(j.object_name, '')", pattern),
            Field::Driver => {
                let matches = self.pattern("t.driver", pattern);
                format!(
                    "EXISTS (SELECT 1 FROM tasks AS t WHERE t.tenant = j.tenant AND t.job = j.id AND {matches})"
                )
            }
            Field::Label(key) => {
                let key = self.bind(key.clone());
                let matches = self.pattern("l.value", pattern);
                format!(
                    "EXISTS (SELECT 1 FROM json_each(j.labels) AS l WHERE l.key = {key} AND {matches})"
                )
            }
        }
    }

    /// Compares bytes: LIKE and GLOB have wildcards and opinions about case, and the functions for text stop at NUL.
    fn pattern(&mut self, text: &str, pattern: &Pattern) -> String {
        match pattern {
            Pattern::Exact(part) => format!("({text} = {})", self.bind(part.clone())),
            Pattern::Prefix(part) | Pattern::Suffix(part) | Pattern::Contains(part)
                if part.is_empty() =>
            {
                "1".into()
            }
            Pattern::Prefix(part) => {
                let (length, part) = self.bytes(part);
                format!("(substr(CAST({text} AS BLOB), 1, {length}) IS {part})")
            }
            Pattern::Suffix(part) => {
                let (length, part) = self.bytes(part);
                format!("(substr(CAST({text} AS BLOB), -{length}) IS {part})")
            }
            Pattern::Contains(part) => {
                let (_, part) = self.bytes(part);
                format!("(instr(CAST({text} AS BLOB), {part}) > 0)")
            }
        }
    }

    fn bytes(&mut self, part: &str) -> (usize, String) {
        (part.len(), self.bind(part.as_bytes().to_vec()))
    }

    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.first + self.values.len() - 1)
    }
}
