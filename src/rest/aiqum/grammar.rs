//! How a list is asked for: a filter for each field, an order, and a page.

#[cfg(test)]
mod tests;

use crate::{
    domain::{
        Job, JobId, JobState, Status, Timestamp,
        filter::{Field, Filter, Order, Pattern},
        wording::{Sentence, sentence},
    },
    engine::{SortKey, SortValue},
    rest::{
        pages::{Fits, Keys, Listing, Sorting},
        query::Query,
        terms::{self, Operator, Term, Terms},
    },
    store::ListOrder,
};

use super::{Face, OFFSET, PAGE_TOKEN};

/// Jobs of a page, if the caller does not say.
const DEFAULT_RECORDS: usize = 20;
/// Jobs of a page, whatever the caller says.
const MAX_RECORDS: usize = 1_000;
pub(super) const MAX_RECORDS_PARAMETER: &str = "max_records";
const ORDER_BY: &str = "order_by";

/// What to filter and to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Key,
    Name,
    Type,
    State,
    Status,
    SubmitTime,
    CompleteTime,
    ParentJobKey,
}

/// As parameters name them.
const FIELDS: [(&str, Column); 8] = [
    ("key", Column::Key),
    ("name", Column::Name),
    ("type", Column::Type),
    ("state", Column::State),
    ("status", Column::Status),
    ("submit_time", Column::SubmitTime),
    ("complete_time", Column::CompleteTime),
    ("parent_job_key", Column::ParentJobKey),
];

/// A list as it is asked for; what is wrong with it is noted in the query.
pub(super) fn listing(face: Face, query: &mut Query) -> Listing {
    // Whatever decides which jobs are listed, and in which order: a place in one list is none in another.
    let mut of = format!("aiqum {face:?}");
    let mut filters = Vec::new();
    let mut fits = Vec::new();
    for (name, field) in FIELDS {
        let Some(value) = query.one(name) else {
            continue;
        };
        of.push_str(&format!(" {name}={value:?}"));
        match condition(face, field, &value) {
            Ok(Condition::Filter(filter)) => filters.push(filter),
            Ok(Condition::Fits(each)) => fits.push(each),
            Err(description) => query.bad(name, description),
        }
    }
    let mut sorting = Sorting::Indexed(ListOrder::CreateTimeDesc);
    if let Some(text) = query.one(ORDER_BY) {
        of.push_str(&format!(" {ORDER_BY}={text:?}"));
        match order(face, &text) {
            Ok(order) => sorting = order,
            Err(description) => query.bad(ORDER_BY, description),
        }
    }
    let offset = query.number::<u32>(OFFSET, 0..=u32::MAX);
    Listing {
        of,
        filter: match filters.len() {
            0 => Filter::All,
            1 => filters.remove(0),
            _ => Filter::And(filters),
        },
        fits: match fits.is_empty() {
            true => None,
            false => Some(Box::new(move |job| fits.iter().all(|fits| fits(job)))),
        },
        sorting,
        offset: offset.map_or(0, |offset| offset as usize),
        limit: records(query),
        token: query.one(PAGE_TOKEN),
    }
}

/// How many jobs make a page: more than are possible is no mistake.
fn records(query: &mut Query) -> usize {
    let Some(text) = query.one(MAX_RECORDS_PARAMETER) else {
        return DEFAULT_RECORDS;
    };
    let number = text.trim().parse::<u64>().ok().filter(|number| *number > 0);
    let Some(number) = number else {
        let (least, most) = (1, MAX_RECORDS);
        let description = sentence!(
            "whole-number",
            "must be a whole number from {least} to {most}",
            least,
            most
        );
        query.bad(MAX_RECORDS_PARAMETER, description);
        return DEFAULT_RECORDS;
    };
    usize::try_from(number).map_or(MAX_RECORDS, |number| number.min(MAX_RECORDS))
}

/// What a parameter asks of a job.
enum Condition {
    Filter(Filter),
    Fits(Fits),
}

fn condition(face: Face, field: Column, value: &str) -> Result<Condition, Sentence> {
    let terms = Terms::read(value)?;
    let filter = match field {
        Column::Key => {
            let equal = |id: Option<JobId>| match id {
                Some(id) => Filter::Id(Order::Equal, id),
                None => nothing(),
            };
            return id(terms, |job| Some(job.id), equal);
        }
        Column::ParentJobKey => return id(terms, |job| job.spec.parent, Filter::Parent),
        Column::Name => text(&terms, &Field::Summary)?,
        Column::Type => text(&terms, &Field::Kind)?,
        Column::State => word(face, &terms, |state, status| face.state(state, status))?,
        Column::Status => word(face, &terms, |_, status| status.name())?,
        Column::SubmitTime => time(&terms, Filter::CreateTime, nothing())?,
        Column::CompleteTime => {
            let open = terms::outcomes(|state, _| !state.is_terminal());
            time(&terms, Filter::EndTime, open)?
        }
    };
    Ok(Condition::Filter(filter))
}

fn nothing() -> Filter {
    Filter::Or(Vec::new())
}

/// Ids: whole ones are looked up, parts of them are compared with each job. `equal` makes the condition of one id, or of none.
fn id(
    terms: Terms,
    of: fn(&Job) -> Option<JobId>,
    equal: impl Fn(Option<JobId>) -> Filter,
) -> Result<Condition, Sentence> {
    let texts: Vec<Option<&str>> = terms.any.iter().map(plain).collect::<Result<_, _>>()?;
    if !texts.iter().flatten().any(|text| text.contains('*')) {
        let filter = terms.filter(|term| {
            let id = plain(term)?.map(|text| text.parse().map(JobId)).transpose();
            // What is no id is no job's.
            Ok(id.map_or_else(|_no_id| nothing(), &equal))
        });
        return filter.map(Condition::Filter);
    }
    let pattern = |text: &str| Pattern::from_wildcard(&text.to_ascii_lowercase());
    let patterns = texts.into_iter().map(|text| text.map(pattern));
    let patterns: Vec<Option<Pattern>> = patterns.collect();
    Ok(Condition::Fits(Box::new(move |job| {
        let id = of(job).map(|id| id.to_string());
        let fits = patterns.iter().any(|pattern| match (pattern, &id) {
            (None, None) => true,
            (Some(pattern), Some(id)) => pattern.matches(id),
            (None, Some(_)) | (Some(_), None) => false,
        });
        fits != terms.negated
    })))
}

/// The text of a term; `None` for null.
fn plain(term: &Term) -> Result<Option<&str>, Sentence> {
    match term {
        Term::Null => Ok(None),
        Term::Compare(Operator::Is, text) => Ok(Some(text)),
        Term::Compare(..) => Err(Sentence::plain(
            "aiqum-no-order",
            "can not be compared with <, <=, > or >=; only times can",
        )),
    }
}

fn text(terms: &Terms, field: &Field) -> Result<Filter, Sentence> {
    terms.filter(|term| {
        let pattern = Pattern::from_wildcard(plain(term)?.unwrap_or_default());
        Ok(Filter::Text(field.clone(), pattern))
    })
}

/// Words of a table, in capitals or not.
fn word(
    face: Face,
    terms: &Terms,
    shown: impl Fn(JobState, Status) -> &'static str,
) -> Result<Filter, Sentence> {
    terms.filter(|term| {
        let value = plain(term)?.unwrap_or("null");
        let pattern = Pattern::from_wildcard(&value.to_ascii_uppercase());
        let filter = terms::outcomes(|state, status| pattern.matches(shown(state, status)));
        match filter == nothing() {
            false => Ok(filter),
            true => Err(sentence!(
                "not-one-of",
                "must be one of {options}",
                options = words(face, &shown).join(", ")
            )),
        }
    })
}

/// All words that a job can have there, each once.
fn words(face: Face, shown: &impl Fn(JobState, Status) -> &'static str) -> Vec<String> {
    let mut words = Vec::new();
    for state in JobState::ALL {
        for status in Status::ALL {
            let word = face.word(shown(state, status));
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }
    words
}

fn time(
    terms: &Terms,
    compare: fn(Order, Timestamp) -> Filter,
    null: Filter,
) -> Result<Filter, Sentence> {
    terms.filter(|term| match term {
        Term::Null => Ok(null.clone()),
        Term::Compare(operator, text) => match terms::moment(text) {
            Some(moment) => Ok(compare(operator.order(), moment)),
            None => Err(terms::no_moment()),
        },
    })
}

fn order(face: Face, text: &str) -> Result<Sorting, Sentence> {
    let mut fields = Vec::new();
    for (name, descending) in terms::sort_fields(text)? {
        let known = FIELDS.iter().find(|(known, _)| *known == name);
        let Some((_, field)) = known else {
            let names: Vec<&str> = FIELDS.iter().map(|(known, _)| *known).collect();
            let options = names.join(", ");
            return Err(sentence!("not-one-of", "must be one of {options}", options));
        };
        fields.push((*field, descending));
    }
    Ok(match fields[..] {
        [(Column::SubmitTime, true)] => Sorting::Indexed(ListOrder::CreateTimeDesc),
        [(Column::SubmitTime, false)] => Sorting::Indexed(ListOrder::CreateTime),
        _ => Sorting::Keys(keys(face, fields)),
    })
}

fn keys(face: Face, fields: Vec<(Column, bool)>) -> Keys {
    Box::new(move |job| {
        let key = |(field, descending): &(Column, bool)| {
            SortKey::new(sort_value(face, *field, job), *descending)
        };
        fields.iter().map(key).collect()
    })
}

fn sort_value(face: Face, field: Column, job: &Job) -> SortValue {
    match field {
        Column::Key => SortValue::text(&job.id.to_string()),
        Column::Name => SortValue::text(&job.spec.summary),
        Column::Type => SortValue::text(&job.spec.kind()),
        Column::State => SortValue::text(face.state(job.state, job.status)),
        Column::Status => SortValue::text(job.status.name()),
        Column::SubmitTime => SortValue::time(Some(job.create_time)),
        Column::CompleteTime => SortValue::time(job.end_time),
        Column::ParentJobKey => match job.spec.parent {
            Some(parent) => SortValue::text(&parent.to_string()),
            None => SortValue::Nothing,
        },
    }
}
