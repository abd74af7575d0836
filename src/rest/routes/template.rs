//! Texts with expressions in them: `Create S3 bucket {{ body.name }}`. There are no statements, so no loops, includes or macros.

use std::fmt;

use minijinja::Value;
use serde_json::Value as Json;

use super::{
    expression::{Expression, end_of_text},
    value::{Budget, json, scalar},
};
use crate::domain::wording::Sentence;

/// A checked template.
pub(super) struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Literal(String),
    Expression(Box<Expression>),
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.source).finish()
    }
}

impl Template {
    /// Reads a template of a route whose path has these parameters.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(source: &str, parameters: &[&str]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = source;
        while let Some(at) = rest.find('{') {
            let (literal, from) = rest.split_at(at);
            match from.as_bytes().get(1) {
                Some(b'{') => {
                    let inner = &from[2..];
                    let end = end_of_expression(inner).ok_or_else(|| {
                        format!("`{{{{` in `{source}` has no end; close it with `}}}}`")
                    })?;
                    let text = &inner[..end];
                    if text.starts_with(['-', '+']) || text.ends_with(['-', '+']) {
                        return Err(format!(
                            "`{source}`: there is no control of white space; write the expression between blanks"
                        ));
                    }
                    push_literal(&mut parts, literal);
                    let expression = Expression::parse(text, parameters)?;
                    parts.push(Part::Expression(Box::new(expression)));
                    rest = &inner[end + 2..];
                }
                Some(b'%' | b'#') => {
                    return Err(format!(
                        "`{source}`: there are no statements and no comments, only expressions: {{{{ body.name }}}}"
                    ));
                }
                _ => {
                    push_literal(&mut parts, &rest[..=at]);
                    rest = &rest[at + 1..];
                }
            }
        }
        push_literal(&mut parts, rest);
        Ok(Self {
            source: source.to_owned(),
            parts,
        })
    }

    /// As it was written.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// The text, if it is the same for every request.
    pub(super) fn literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether it is one expression, which keeps its type.
    pub(super) fn is_expression(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Expression(_)])
    }

    /// The text for a request.
    ///
    /// # Errors
    /// What the request lacks, or what can not be done with its values.
    pub(super) fn text(&self, input: &Value, budget: &mut Budget) -> Result<String, Sentence> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(literal) => {
                    budget.take(literal.len())?;
                    text.push_str(literal);
                }
                Part::Expression(expression) => {
                    let value = scalar(&expression.evaluate(input)?)?;
                    budget.take(value.len())?;
                    text.push_str(&value);
                }
            }
        }
        Ok(text)
    }

    /// The value for a request: of any type if it is one expression, else a text.
    ///
    /// # Errors
    /// What the request lacks, or what can not be done with its values.
    pub(super) fn value(&self, input: &Value, budget: &mut Budget) -> Result<Json, Sentence> {
        match self.parts.as_slice() {
            [Part::Expression(expression)] => json(&expression.evaluate(input)?, budget),
            _ => self.text(input, budget).map(Json::String),
        }
    }
}

fn push_literal(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        _ if text.is_empty() => {}
        Some(Part::Literal(literal)) => literal.push_str(text),
        _ => parts.push(Part::Literal(text.to_owned())),
    }
}

/// Where the `}}` stands that ends an expression: not within a text, and not where it ends objects.
fn end_of_expression(rest: &str) -> Option<usize> {
    let mut at = 0;
    let mut open = 0_usize;
    while let Some(byte) = rest.as_bytes().get(at) {
        at += match byte {
            b'"' | b'\'' => end_of_text(&rest[at..])?,
            b'{' => {
                open += 1;
                1
            }
            b'}' if open > 0 => {
                open -= 1;
                1
            }
            b'}' if rest[at..].starts_with("}}") => return Some(at),
            _ => 1,
        };
    }
    None
}
