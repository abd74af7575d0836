//! A filter as a condition of SQL, with the meaning of [`Filter::matches`] to the letter. Values are bound, never spliced in; no condition is ever NULL,
//! so that NOT means not.

use rusqlite::types::Value;
use uuid::Uuid;

use crate::{
    domain::{
        JobId, JobState, Status, Timestamp,
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

/// The ids of which a job must have one if the filter is to match, each once.
pub(super) fn required_ids(filter: &Filter) -> Option<Vec<JobId>> {
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
pub(super) fn id_bounds(filter: &Filter) -> (Uuid, Uuid) {
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
            Filter::StartTime(order, time) => self.moment("j.start_time", *order, *time),
            Filter::EndTime(order, time) => self.moment("j.end_time", *order, *time),
            Filter::UpdateTime(order, time) => {
                self.compare("j.update_time", *order, time.as_micros())
            }
            Filter::Id(order, id) => self.compare("j.id", *order, id.0.as_bytes().to_vec()),
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

    /// Compares a time that may not be there yet.
    fn moment(&mut self, column: &str, order: Order, time: Timestamp) -> String {
        let compared = self.compare(column, order, time.as_micros());
        format!("({column} IS NOT NULL AND {compared})")
    }

    fn compare(&mut self, column: &str, order: Order, value: impl Into<Value>) -> String {
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
            Field::Kind => self.pattern(KIND, pattern),
            Field::Summary => self.pattern("j.summary", pattern),
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
            Pattern::Glob(parts) => match parts.as_slice() {
                [] => self.pattern(text, &Pattern::Exact(String::new())),
                [all] => self.pattern(text, &Pattern::Exact(all.clone())),
                [start, middle @ .., end] => self.glob(text, start, middle, end),
            },
        }
    }

    /// Looks for the parts between start and end one behind the other, each in what the one before has left.
    fn glob(&mut self, text: &str, start: &str, middle: &[String], end: &str) -> String {
        let ends = start.len() + end.len();
        let mut conditions = vec![format!("length(CAST({text} AS BLOB)) >= {ends}")];
        conditions.push(self.pattern(text, &Pattern::Prefix(start.to_owned())));
        conditions.push(self.pattern(text, &Pattern::Suffix(end.to_owned())));
        let middle = middle.iter().filter(|part| !part.is_empty());
        let parts: Vec<(usize, String)> = middle.map(|part| self.bytes(part)).collect();
        if !parts.is_empty() {
            let case = |value: fn(&(usize, String)) -> String| {
                let parts = parts.iter().enumerate();
                let each = parts.map(|(at, part)| format!("WHEN {at} THEN {}", value(part)));
                format!("CASE g.found {} END", each.collect::<Vec<_>>().join(" "))
            };
            let (part, length) = (case(|part| part.1.clone()), case(|part| part.0.to_string()));
            let all = parts.len();
            conditions.push(format!(
                "EXISTS (WITH RECURSIVE g(found, rest) AS (
                    SELECT 0, substr(CAST({text} AS BLOB), {from}, length(CAST({text} AS BLOB)) - {ends})
                    UNION ALL
                    SELECT found + 1, substr(rest, instr(rest, {part}) + {length}) FROM g
                    WHERE found < {all} AND instr(rest, {part}) > 0
                 ) SELECT 1 FROM g WHERE found = {all})",
                from = start.len() + 1,
            ));
        }
        format!("({})", conditions.join(" AND "))
    }

    fn bytes(&mut self, part: &str) -> (usize, String) {
        (part.len(), self.bind(part.as_bytes().to_vec()))
    }

    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("?{}", self.first + self.values.len() - 1)
    }
}
