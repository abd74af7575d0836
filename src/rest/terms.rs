//! The query grammar that the dialects share: values of filter parameters with an operator in front of them.
//!
//! `a`, `!a`, `<a`, `<=a`, `>a`, `>=a`, `null`, `!null`, `a|b`, and `*` for any text. A space after an operator does not count. A `!` in front negates
//! all of the alternatives behind it, which may repeat it.

use crate::domain::{
    JobState, Status, Timestamp,
    filter::{Filter, Order},
    wording::{Sentence, sentence},
};

/// Alternatives in a value: each is work for every candidate row.
const MAX_ALTERNATIVES: usize = 50;
/// Fields to sort by: what a place in such a list takes has to fit a token.
const MAX_SORT_FIELDS: usize = 8;

/// How a field compares with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    /// As it stands; the text may have wildcards.
    Is,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// One alternative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Term {
    /// The field has no value.
    Null,
    Compare(Operator, String),
}

/// A value taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) negated: bool,
    pub(super) any: Vec<Term>,
}

impl Terms {
    /// Takes a value apart.
    pub(super) fn read(value: &str) -> Result<Self, Sentence> {
        let value = value.trim();
        let (negated, value) = match value.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, value),
        };
        let mut alternatives: Vec<&str> = value.split('|').map(str::trim).collect();
        if alternatives.len() > MAX_ALTERNATIVES {
            return Err(sentence!(
                "too-many-alternatives",
                "has more than {most} alternatives; ask for some of them at a time",
                most = MAX_ALTERNATIVES
            ));
        }
        for alternative in alternatives.iter_mut().skip(1) {
            match alternative.strip_prefix('!') {
                Some(rest) if negated => *alternative = rest,
                Some(_) => {
                    return Err(Sentence::plain(
                        "negation-inside",
                        "must have a ! before its first alternative, where it negates them all, or none",
                    ));
                }
                None => {}
            }
        }
        let any = alternatives.into_iter().map(term).collect();
        Ok(Self { negated, any })
    }

    /// The condition that a field meets one of the alternatives, or none of them if they are negated. `each` makes the condition of one alternative.
    pub(super) fn filter<E>(
        &self,
        each: impl FnMut(&Term) -> Result<Filter, E>,
    ) -> Result<Filter, E> {
        let mut any: Vec<Filter> = self.any.iter().map(each).collect::<Result<_, E>>()?;
        let filter = match any.len() {
            1 => any.remove(0),
            _ => Filter::Or(any),
        };
        Ok(match self.negated {
            true => Filter::Not(Box::new(filter)),
            false => filter,
        })
    }
}

fn term(text: &str) -> Term {
    let text = text.trim();
    if text.eq_ignore_ascii_case("null") {
        return Term::Null;
    }
    // The longer ones first.
    let operators = [
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];
    for (sign, operator) in operators {
        if let Some(value) = text.strip_prefix(sign) {
            return Term::Compare(operator, value.trim_start().to_owned());
        }
    }
    Term::Compare(Operator::Is, text.to_owned())
}

impl Operator {
    /// For fields that have an order.
    pub(super) fn order(self) -> Order {
        match self {
            Self::Is => Order::Equal,
            Self::Less => Order::Less,
            Self::LessOrEqual => Order::LessOrEqual,
            Self::Greater => Order::Greater,
            Self::GreaterOrEqual => Order::GreaterOrEqual,
        }
    }
}

/// A list of fields to sort by, each with whether its largest values come first: `a desc, b asc, c`.
pub(super) fn sort_fields(text: &str) -> Result<Vec<(String, bool)>, Sentence> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    if parts.len() > MAX_SORT_FIELDS {
        return Err(sentence!(
            "too-many-sort-fields",
            "has {fields} fields; at most {most} are allowed",
            fields = parts.len(),
            most = MAX_SORT_FIELDS
        ));
    }
    let fields = parts.into_iter().map(|part| {
        let (field, direction) = part
            .split_once(char::is_whitespace)
            .unwrap_or((part, "asc"));
        let is = |word: &str| direction.trim().eq_ignore_ascii_case(word);
        match () {
            () if is("asc") => Ok((field.to_owned(), false)),
            () if is("desc") => Ok((field.to_owned(), true)),
            () => Err(Sentence::plain(
                "sort-direction",
                "must be fields parted by commas, each with asc or desc behind it or nothing",
            )),
        }
    });
    fields.collect()
}

/// The condition that a job is in one of the states and statuses that a dialect shows as this. Both enums are small, so that each pair is looked at.
pub(super) fn outcomes(shown: impl Fn(JobState, Status) -> bool) -> Filter {
    let mut any = Vec::new();
    for state in JobState::ALL {
        let fitting = Status::ALL
            .into_iter()
            .filter(|status| shown(state, *status));
        let fitting: Vec<Status> = fitting.collect();
        let is_state = Filter::State(Order::Equal, state);
        if fitting.len() == Status::ALL.len() {
            any.push(is_state);
        } else if !fitting.is_empty() {
            let statuses = fitting.into_iter();
            let statuses = statuses.map(|status| Filter::Status(Order::Equal, status));
            any.push(Filter::And(vec![is_state, Filter::Or(statuses.collect())]));
        }
    }
    Filter::Or(any)
}

/// What is wrong with what should be a time of a filter.
pub(super) fn no_moment() -> Sentence {
    Sentence::plain(
        "filter-moment",
        "must be a time such as 2026-01-31T12:00:00Z, with <, <=, > or >= in front of it or nothing",
    )
}

/// A time of a filter: RFC 3339, also with a space where the `+` of an offset was lost on its way, or without an offset, which is UTC.
pub(super) fn moment(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let parsed = text
        .parse::<jiff::Timestamp>()
        .or_else(|_| with_plus(text).parse())
        .ok();
    let utc = || {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        let moment = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
        Some(moment.timestamp())
    };
    let moment = parsed.or_else(utc)?;
    Some(Timestamp::from_micros(moment.as_microsecond()))
}

/// `2026-01-31T12:00:00 02:00` as it was before a decoder took its `+` for a space.
fn with_plus(text: &str) -> String {
    match text.rsplit_once(' ') {
        Some((moment, offset)) if moment.contains(['T', ' ']) => format!("{moment}+{offset}"),
        Some(_) | None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Terms {
        Terms::read(value).unwrap()
    }

    #[test]
    fn operators_stand_in_front_of_values() {
        let compare = |operator, value: &str| Term::Compare(operator, value.to_owned());
        assert_eq!(read(">= 5").any, [compare(Operator::GreaterOrEqual, "5")]);
        assert_eq!(read("<5").any, [compare(Operator::Less, "5")]);
        assert_eq!(read("null").any, [Term::Null]);
        let not = read("! a|b*");
        assert!(not.negated);
        let any = [compare(Operator::Is, "a"), compare(Operator::Is, "b*")];
        assert_eq!(not.any, any);
        assert!(read("!null").negated);
        assert!(Terms::read(&"|".repeat(60)).is_err());
    }

    #[test]
    fn a_negation_is_of_all_alternatives_or_of_none() {
        let none = read("!a|b|c");
        assert!(none.negated);
        for value in ["!a|!b|!c", "! a | ! b | c", "!a|b|!c"] {
            assert_eq!(read(value), none, "{value}");
        }
        for value in ["a|!b", "a| !b", "null|!null", "a|b|!"] {
            let wrong = Terms::read(value).unwrap_err();
            assert_eq!(wrong.id(), "negation-inside", "{value}");
        }
        // Elsewhere it is a letter like others.
        assert!(!read("a!|b!c").negated);
    }

    #[test]
    fn sort_fields_have_directions() {
        let fields = sort_fields("name desc, state ASC,type").unwrap();
        let expected = [("name", true), ("state", false), ("type", false)];
        assert_eq!(fields, expected.map(|(name, desc)| (name.to_owned(), desc)));
        assert!(sort_fields("name down").is_err());
        assert!(sort_fields("a,b,c,d,e,f,g,h,i").is_err());
    }

    #[test]
    fn times_are_read_as_they_come() {
        let expected = moment("2019-04-04T15:41:29.140265Z");
        assert!(expected.is_some());
        for text in [
            "2019-04-04T15:41:29.140265+00:00",
            "2019-04-04T15:41:29.140265 00:00",
            "2019-04-04T17:41:29.140265+02:00",
            "2019-04-04T17:41:29.140265 02:00",
            "2019-04-04 15:41:29.140265",
            " 2019-04-04T15:41:29.140265 ",
        ] {
            assert_eq!(moment(text), expected, "{text}");
        }
        for text in ["None", "", "2019-13-04T00:00:00Z", "yesterday", "12 13"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }

    #[test]
    fn a_shown_state_is_a_set_of_outcomes() {
        let running = outcomes(|state, _| state == JobState::Running);
        assert_eq!(
            running,
            Filter::Or(vec![Filter::State(Order::Equal, JobState::Running)])
        );
        let warned = outcomes(|state, status| !state.is_terminal() && status == Status::Warning);
        assert!(matches!(warned, Filter::Or(parts) if parts.len() == 3));
        assert_eq!(outcomes(|_, _| false), Filter::Or(Vec::new()));
    }
}
