//! What SQLite says in its own way of a filter.

use crate::{
    domain::filter::Pattern,
    store::filter::{Dialect, Value, Values},
};

/// See the module.
#[derive(Debug)]
pub(super) struct Sqlite;

impl Dialect for Sqlite {
    const TRUE: &'static str = "1";
    const FALSE: &'static str = "0";

    fn parameter(number: usize, _: &Value) -> String {
        format!("?{number}")
    }

    fn label(values: &mut Values<Self>, key: &str, pattern: Option<&Pattern>) -> String {
        let key = values.bind(Value::Text(key.to_owned()));
        let matches = pattern.map_or_else(String::new, |pattern| {
            format!(" AND {}", Self::matches(values, "l.value", pattern))
        });
        format!("EXISTS (SELECT 1 FROM json_each(j.labels) AS l WHERE l.key = {key}{matches})")
    }

    /// Compares bytes: LIKE and GLOB have wildcards and opinions about case, and the functions for text stop at NUL.
    fn matches(values: &mut Values<Self>, text: &str, pattern: &Pattern) -> String {
        match pattern {
            Pattern::Exact(part) => {
                format!("({text} = {})", values.bind(Value::Text(part.clone())))
            }
            Pattern::Prefix(part) | Pattern::Suffix(part) | Pattern::Contains(part)
                if part.is_empty() =>
            {
                Self::TRUE.into()
            }
            Pattern::Prefix(part) => {
                let (length, part) = bytes(values, part);
                format!("(substr(CAST({text} AS BLOB), 1, {length}) IS {part})")
            }
            Pattern::Suffix(part) => {
                let (length, part) = bytes(values, part);
                format!("(substr(CAST({text} AS BLOB), -{length}) IS {part})")
            }
            Pattern::Contains(part) => {
                let (_, part) = bytes(values, part);
                format!("(instr(CAST({text} AS BLOB), {part}) > 0)")
            }
            Pattern::Glob(parts) => match parts.as_slice() {
                [] => Self::matches(values, text, &Pattern::Exact(String::new())),
                [all] => Self::matches(values, text, &Pattern::Exact(all.clone())),
                [start, middle @ .., end] => glob(values, text, start, middle, end),
            },
        }
    }
}

/// Looks for the parts between start and end one behind the other, each in what the one before has left.
fn glob(
    values: &mut Values<Sqlite>,
    text: &str,
    start: &str,
    middle: &[String],
    end: &str,
) -> String {
    let ends = start.len() + end.len();
    let mut conditions = vec![format!("length(CAST({text} AS BLOB)) >= {ends}")];
    conditions.push(Sqlite::matches(
        values,
        text,
        &Pattern::Prefix(start.to_owned()),
    ));
    conditions.push(Sqlite::matches(
        values,
        text,
        &Pattern::Suffix(end.to_owned()),
    ));
    let middle = middle.iter().filter(|part| !part.is_empty());
    let parts: Vec<(usize, String)> = middle.map(|part| bytes(values, part)).collect();
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

fn bytes(values: &mut Values<Sqlite>, part: &str) -> (usize, String) {
    (
        part.len(),
        values.bind(Value::Bytes(part.as_bytes().to_vec())),
    )
}
