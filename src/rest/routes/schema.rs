//! JSON Schemas of request bodies: read and checked at start, and nothing is fetched, neither then nor later.

use std::{
    fmt::{self, Write as _},
    fs::File,
    io::Read,
    path::Path,
};

use jsonschema::{
    PatternOptions, ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind},
    paths::LocationSegment,
};
use serde_json::Value;

use super::fault::MAX_VIOLATIONS;
use crate::domain::{
    submission::Violation,
    wording::{Sentence, sentence},
};

/// Bytes of a schema file.
const MAX_SCHEMA_BYTES: u64 = 1024 * 1024;
/// Bytes of a compiled pattern.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;
/// Characters of a description: a schema may list a thousand values.
const MAX_DESCRIPTION_CHARS: usize = 300;
/// Values in a body, all levels together: the library collects every error before it tells the first.
const MAX_BODY_VALUES: usize = 50_000;
/// Objects and lists in each other: as many as a JSON parser lets in.
const MAX_BODY_DEPTH: usize = 128;

/// A checked schema.
pub(super) struct Schema {
    document: Value,
    validator: Validator,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.document).finish()
    }
}

impl Schema {
    /// Reads a schema file.
    ///
    /// # Errors
    /// What is wrong with it and what to do.
    pub(super) fn load(path: &Path) -> Result<Self, String> {
        let text = read(path, MAX_SCHEMA_BYTES)
            .map_err(|what| format!("the schema {} {what}", path.display()))?;
        let document: Value = serde_json::from_str(&text)
            .map_err(|error| format!("the schema {} is not JSON: {error}", path.display()))?;
        if !document.is_object() {
            return Err(format!("the schema {} is not an object", path.display()));
        }
        // The regex engine without back-tracking: its time is linear in the text that a client sends.
        let patterns = PatternOptions::regex()
            .size_limit(MAX_PATTERN_BYTES)
            .dfa_size_limit(MAX_PATTERN_BYTES);
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(patterns)
            .should_validate_formats(true)
            .build(&document)
            .map_err(|error| {
                format!(
                    "the schema {} is not a JSON Schema that can be used without fetching another: {}{}",
                    path.display(),
                    shortened(&error.to_string()),
                    at(&error)
                )
            })?;
        Ok(Self {
            document,
            validator,
        })
    }

    /// The schema as it stands in the file.
    pub(super) fn document(&self) -> &Value {
        &self.document
    }

    /// Adds what does not match; never repeats a value of the body, which may be secret.
    pub(super) fn check(&self, body: &Value, violations: &mut Vec<Violation>) {
        if self.validator.is_valid(body) {
            return;
        }
        for error in self.validator.iter_errors(body) {
            violate(&error, violations);
            if violations.len() >= MAX_VIOLATIONS {
                violations.truncate(MAX_VIOLATIONS);
                return;
            }
        }
    }
}

/// Checks the form of a body before anything walks through it.
///
/// # Errors
/// It is too deep or has too many values.
pub(super) fn check_form(body: &Value) -> Result<(), Violation> {
    let mut waiting = vec![(body, 0)];
    let mut seen = 0_usize;
    while let Some((value, depth)) = waiting.pop() {
        seen += 1;
        if seen + waiting.len() > MAX_BODY_VALUES {
            return Err(Violation::new(
                "body",
                sentence!(
                    "too-many-values",
                    "has more than {most} values",
                    most = MAX_BODY_VALUES
                ),
            ));
        }
        if depth > MAX_BODY_DEPTH {
            return Err(Violation::new(
                "body",
                sentence!(
                    "nests-deeper",
                    "nests deeper than {most} levels",
                    most = MAX_BODY_DEPTH
                ),
            ));
        }
        match value {
            Value::Array(list) => waiting.extend(list.iter().map(|v| (v, depth + 1))),
            Value::Object(map) => waiting.extend(map.values().map(|v| (v, depth + 1))),
            _ => {}
        }
    }
    Ok(())
}

/// Reads a file of bounded size.
pub(super) fn read(path: &Path, most: u64) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("can not be read: {error}");
    // Anything else than a file may have no end, or never begin.
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err("is not a file".to_owned());
    }
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(most + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    match text.len() as u64 > most {
        true => Err(format!("is larger than {most} bytes")),
        false => Ok(text),
    }
}

fn violate(error: &ValidationError<'_>, violations: &mut Vec<Violation>) {
    let mut field = "body".to_owned();
    for segment in error.instance_path() {
        match segment {
            LocationSegment::Property(name) => push_name(&mut field, &name),
            LocationSegment::Index(index) => {
                let _ = write!(field, "[{index}]");
            }
        }
    }
    let mut add = |field: String, what: Sentence| violations.push(Violation::new(field, what));
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            push_name(&mut field, property.as_str().unwrap_or_default());
            add(field, sentence!("required", "is required"));
        }
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            for name in unexpected.iter().take(MAX_VIOLATIONS) {
                let mut field = field.clone();
                push_name(&mut field, name);
                add(
                    field,
                    sentence!("not-a-field", "is not a field of this request"),
                );
            }
        }
        kind => add(field, said(kind, error)),
    }
}

/// What is wrong, by its rule; never the value.
fn said(kind: &ValidationErrorKind, error: &ValidationError<'_>) -> Sentence {
    match kind {
        ValidationErrorKind::FalseSchema => sentence!("not-allowed", "is not allowed here"),
        ValidationErrorKind::Type {
            kind: TypeKind::Single(kind),
        } => sentence!(
            "not-of-type",
            "must be of type {kind}",
            kind = kind.to_string()
        ),
        ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. } => {
            sentence!("fits-no-form", "has none of the forms that are allowed")
        }
        ValidationErrorKind::Enum { options } => sentence!(
            "not-one-of",
            "must be one of {options}",
            options = shortened(&options.to_string()),
        ),
        ValidationErrorKind::Pattern { pattern } => sentence!(
            "no-match",
            "must match {pattern}",
            pattern = shortened(pattern)
        ),
        ValidationErrorKind::Format { format } => sentence!(
            "bad-format",
            "must have the format {format}",
            format = shortened(format)
        ),
        ValidationErrorKind::MinLength { limit } => sentence!(
            "at-least-characters",
            "must have at least {limit} characters",
            limit
        ),
        ValidationErrorKind::MaxLength { limit } => sentence!(
            "at-most-characters",
            "must have at most {limit} characters",
            limit
        ),
        ValidationErrorKind::MinItems { limit } => {
            sentence!("at-least-items", "must have at least {limit} items", limit)
        }
        ValidationErrorKind::MaxItems { limit } => {
            sentence!("at-most-items", "must have at most {limit} items", limit)
        }
        ValidationErrorKind::Minimum { limit } => sentence!(
            "at-least",
            "must be at least {least}",
            least = limit.to_string()
        ),
        ValidationErrorKind::Maximum { limit } => sentence!(
            "at-most",
            "must be at most {most}",
            most = limit.to_string()
        ),
        // Rarer rules, in the words of the library.
        _ => Sentence::foreign(shortened(&error.masked_with("this").to_string())),
    }
}

fn push_name(field: &mut String, name: &str) {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    match !name.is_empty() && name.bytes().all(plain) {
        true => {
            field.push('.');
            field.push_str(&shortened(name));
        }
        false => {
            let _ = write!(field, "[{:?}]", shortened(name));
        }
    }
}

fn at(error: &ValidationError<'_>) -> String {
    match error.instance_path().as_str() {
        "" => String::new(),
        path => format!(" (at {path})"),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_DESCRIPTION_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
