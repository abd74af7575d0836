//! The parameters of a request, taken one after the other; what is wrong with them is told at once, and what nobody took is wrong.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::RangeInclusive,
    str::FromStr,
};

use percent_encoding::percent_decode_str;

use crate::{
    api::{Fault, Reason},
    domain::{
        submission::Violation,
        wording::{Sentence, sentence},
    },
};

/// Bytes of a query as it is sent: more than any filter needs, and less than a head may have, so that the refusal is ours.
const MAX_QUERY_BYTES: usize = 8 * 1024;
/// What links of ours add to a query, and what is therefore not counted: who was within the limit is so on every page. Heads have a limit of their own.
const OF_LINKS: [&str; 2] = ["offset", "page_token"];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Query {
    /// In the order in which they were sent, decoded.
    pairs: Vec<(String, String)>,
    violations: Vec<Violation>,
}

impl Query {
    /// Takes a query apart. Both `%20` and `+` are a space, as forms send it.
    pub(super) fn parse(raw: Option<&str>) -> Result<Self, Fault> {
        let raw = raw.unwrap_or_default();
        let counted = raw.split('&').filter(|pair| {
            let name = pair.split('=').next().unwrap_or_default();
            !OF_LINKS.contains(&name)
        });
        let bytes = counted.map(|pair| pair.len() + 1).sum::<usize>();
        let bytes = bytes.saturating_sub(1);
        if bytes > MAX_QUERY_BYTES {
            let message = sentence!(
                "query-too-long",
                "the query has {bytes} bytes; at most {most} are allowed",
                bytes,
                most = MAX_QUERY_BYTES
            );
            return Err(Fault::new(Reason::UriTooLong, message));
        }
        let mut query = Self::default();
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => query.pairs.push((name, value)),
                (name, _) => {
                    let name = name.unwrap_or_else(|| "query".to_owned());
                    query.bad(&name, not_text());
                }
            }
        }
        Ok(query)
    }

    /// Notes what is wrong with a parameter.
    pub(super) fn bad(&mut self, name: &str, description: impl Into<Sentence>) {
        self.violations.push(Violation::new(name, description));
    }

    /// Takes a parameter that may stand once.
    pub(super) fn one(&mut self, name: &str) -> Option<String> {
        let mut values = self.all(name);
        if values.len() > 1 {
            self.bad(name, Sentence::plain("given-twice", "is given twice"));
        }
        values.pop()
    }

    /// Takes all values of a parameter that may be repeated.
    pub(super) fn all(&mut self, name: &str) -> Vec<String> {
        let taken = self.pairs.extract_if(.., |(n, _)| n == name);
        taken.map(|(_, value)| value).collect()
    }

    /// Takes what is left, for a front end that knows the names itself.
    pub(super) fn rest(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.pairs)
    }

    /// The same, for one that takes each name once.
    pub(super) fn each_once(&mut self) -> BTreeMap<String, String> {
        let mut taken = BTreeMap::new();
        for (name, value) in self.rest() {
            match taken.entry(name) {
                Entry::Vacant(free) => {
                    free.insert(value);
                }
                Entry::Occupied(twice) => {
                    self.bad(
                        twice.key(),
                        Sentence::plain("given-twice", "is given twice"),
                    );
                }
            }
        }
        taken
    }

    /// Takes a whole number within a range.
    pub(super) fn number<N>(&mut self, name: &str, range: RangeInclusive<N>) -> Option<N>
    where
        N: FromStr + PartialOrd + Copy + Into<i64>,
    {
        let value = self.one(name)?;
        let number = value.trim().parse().ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most): (i64, i64) = ((*range.start()).into(), (*range.end()).into());
            let description = sentence!(
                "whole-number",
                "must be a whole number from {least} to {most}",
                least,
                most
            );
            self.bad(name, description);
        }
        number
    }

    /// Refuses the request if anything was wrong, or if there are parameters that nobody took.
    pub(super) fn finish(&mut self) -> Result<(), Fault> {
        for (name, _) in std::mem::take(&mut self.pairs) {
            self.bad(
                &name,
                Sentence::plain("no-parameter", "there is no such parameter here"),
            );
        }
        match std::mem::take(&mut self.violations) {
            none if none.is_empty() => Ok(()),
            violations => Err(Fault::invalid(violations)),
        }
    }
}

/// Text of a query without its escapes; `None` if it is not UTF-8 or has control characters.
fn decode(text: &str) -> Option<String> {
    let text = text.replace('+', " ");
    let text = percent_decode_str(&text).decode_utf8().ok()?;
    (!text.chars().any(char::is_control)).then(|| text.into_owned())
}

/// What is wrong with text that has no place in a URL.
pub(super) fn not_text() -> Sentence {
    Sentence::plain(
        "not-text",
        "must be UTF-8 without control characters, percent-encoded",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(raw: &str) -> Query {
        Query::parse(Some(raw)).unwrap()
    }

    #[test]
    fn values_come_without_their_escapes() {
        let mut query = parsed("a=%3E%3D2019-04-04T15%3A41%3A29Z&b=x+y&c&d=%E2%82%AC&a=2");
        assert_eq!(query.all("a"), [">=2019-04-04T15:41:29Z", "2"]);
        assert_eq!(query.one("b").as_deref(), Some("x y"));
        assert_eq!(query.one("c").as_deref(), Some(""));
        assert_eq!(query.one("d").as_deref(), Some("€"));
        assert_eq!(query.one("e"), None);
        assert!(query.finish().is_ok());
    }

    #[test]
    fn everything_that_is_wrong_is_told() {
        let mut query = parsed("n=7&n=8&m=x&c=%0d%0a&u=%ff&other=1");
        query.number::<u32>("n", 1..=9);
        query.number::<u32>("m", 1..=9);
        let fault = query.finish().unwrap_err();
        let fields: Vec<_> = fault.violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(fields, ["c", "u", "n", "m", "other"]);
    }

    #[test]
    fn a_name_that_may_stand_once_is_told_when_it_stands_twice() {
        let mut query = parsed("size=1&size=9&a=2");
        assert_eq!(query.each_once().len(), 2);
        let fault = query.finish().unwrap_err();
        assert_eq!(fault.violations[0].field, "size");
        let mut query = parsed("size=1&a=2");
        assert_eq!(query.each_once()["size"], "1");
        assert!(query.finish().is_ok());
    }

    #[test]
    fn a_query_has_a_limit() {
        let long = "a=".to_owned() + &"x".repeat(MAX_QUERY_BYTES);
        assert_eq!(
            Query::parse(Some(&long)).unwrap_err().reason,
            Reason::UriTooLong
        );
        let fits = &long[..MAX_QUERY_BYTES];
        assert!(Query::parse(Some(fits)).is_ok());
        // A link goes on with what was accepted.
        let link = format!("{fits}&offset=20&page_token={}", "x".repeat(2_000));
        assert!(Query::parse(Some(&link)).is_ok());
        let other = format!("{fits}&page_tokens=x");
        assert!(Query::parse(Some(&other)).is_err());
    }
}
