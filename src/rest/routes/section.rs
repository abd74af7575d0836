//! A table of a route file, read field by field: every unknown field and every wrong type becomes a mistake with its line, and reading goes on.

use std::path::Path;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::fault::Mistakes;

/// A file that is being read, and what was wrong so far.
pub(super) struct Source<'a> {
    file: &'a Path,
    /// Where the lines end, in bytes.
    ends: Vec<usize>,
    mistakes: &'a mut Mistakes,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a Path, text: &str, mistakes: &'a mut Mistakes) -> Self {
        Self {
            file,
            ends: text.match_indices('\n').map(|(at, _)| at).collect(),
            mistakes,
        }
    }

    pub(super) fn file(&self) -> &'a Path {
        self.file
    }

    /// Reports a mistake at a byte of the file.
    pub(super) fn bad(&mut self, at: usize, what: impl Into<String>) {
        let line = self.line(at);
        self.bad_line(line, what);
    }

    /// Reports a mistake at a line.
    pub(super) fn bad_line(&mut self, line: usize, what: impl Into<String>) {
        self.mistakes.add(self.file, Some(line), what.into());
    }

    /// The line of a byte, counted from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        1 + self.ends.partition_point(|end| *end < at)
    }
}

/// A text and where it stands.
pub(super) type Text<'a> = Spanned<&'a str>;

/// A table and what it is, such as `a route`.
#[derive(Clone, Copy)]
pub(super) struct Section<'a> {
    table: &'a DeTable<'a>,
    /// Where the table begins.
    pub(super) at: usize,
    what: &'static str,
}

impl<'a> Section<'a> {
    /// Begins to read a table that may have these fields and no others.
    pub(super) fn new(
        table: &'a DeTable<'a>,
        at: usize,
        what: &'static str,
        fields: &[&str],
        source: &mut Source<'_>,
    ) -> Self {
        for key in table.keys() {
            let name = key.get_ref().as_ref();
            if !fields.contains(&name) {
                source.bad(
                    key.span().start,
                    format!(
                        "there is no field `{name}` in {what}; there is {}",
                        fields.join(", ")
                    ),
                );
            }
        }
        Self { table, at, what }
    }

    /// A field of any type.
    pub(super) fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table.get(key)
    }

    /// A text.
    pub(super) fn text(&self, key: &str, source: &mut Source<'_>) -> Option<Text<'a>> {
        let value = self.value(key)?;
        text(key, value, source)
    }

    /// A text that must be there.
    pub(super) fn required(&self, key: &str, source: &mut Source<'_>) -> Option<Text<'a>> {
        if self.value(key).is_none() {
            source.bad(self.at, format!("`{key}` is missing in {}", self.what));
        }
        self.text(key, source)
    }

    /// A whole number.
    pub(super) fn integer<T: TryFrom<i64>>(
        &self,
        key: &str,
        source: &mut Source<'_>,
    ) -> Option<Spanned<T>> {
        let value = self.value(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let Some(number) = number.and_then(|n| T::try_from(n).ok()) else {
            source.bad(
                value.span().start,
                format!("`{key}` must be a whole number that is not out of range"),
            );
            return None;
        };
        Some(Spanned::new(value.span(), number))
    }

    /// A number.
    pub(super) fn number(&self, key: &str, source: &mut Source<'_>) -> Option<f64> {
        let value = self.value(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            DeValue::Float(number) => number.as_str().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number: &f64| number.is_finite());
        if number.is_none() {
            source.bad(value.span().start, format!("`{key}` must be a number"));
        }
        number
    }

    /// A table with these fields and no others.
    pub(super) fn section(
        &self,
        key: &str,
        what: &'static str,
        fields: &[&str],
        source: &mut Source<'_>,
    ) -> Option<Self> {
        let (table, at) = self.table(key, source)?;
        Some(Self::new(table, at, what, fields, source))
    }

    /// A table with fields of any name.
    pub(super) fn table(
        &self,
        key: &str,
        source: &mut Source<'_>,
    ) -> Option<(&'a DeTable<'a>, usize)> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::Table(table) => Some((table, value.span().start)),
            other => {
                let found = other.type_str();
                source.bad(
                    value.span().start,
                    format!("`{key}` must be a table, like {{ name = \"…\" }}, not {found}"),
                );
                None
            }
        }
    }

    /// A list of tables, `[[key]]`.
    pub(super) fn tables(
        &self,
        key: &str,
        source: &mut Source<'_>,
    ) -> Vec<(&'a DeTable<'a>, usize)> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let list = match value.get_ref() {
            DeValue::Array(list) => list.iter().map(|item| match item.get_ref() {
                DeValue::Table(table) => Some((table, item.span().start)),
                _ => None,
            }),
            _ => {
                source.bad(value.span().start, not_tables(key));
                return Vec::new();
            }
        };
        let tables: Option<Vec<_>> = list.collect();
        tables.unwrap_or_else(|| {
            source.bad(value.span().start, not_tables(key));
            Vec::new()
        })
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str, source: &mut Source<'_>) -> Vec<Text<'a>> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let DeValue::Array(list) = value.get_ref() else {
            source.bad(
                value.span().start,
                format!("`{key}` must be a list of texts, like [\"…\"]"),
            );
            return Vec::new();
        };
        list.iter()
            .filter_map(|item| text(key, item, source))
            .collect()
    }
}

fn not_tables(key: &str) -> String {
    format!("`{key}` must be tables under headings [[…{key}]]")
}

fn text<'a>(
    key: &str,
    value: &'a Spanned<DeValue<'a>>,
    source: &mut Source<'_>,
) -> Option<Text<'a>> {
    match value.get_ref() {
        DeValue::String(text) => Some(Spanned::new(value.span(), text.as_ref())),
        other => {
            let found = other.type_str();
            source.bad(
                value.span().start,
                format!("`{key}` must be a text in quotes, not {found}"),
            );
            None
        }
    }
}
