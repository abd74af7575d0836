//! The checks that many methods share.

use std::{ops::RangeInclusive, time::Duration};

use serde::{Serialize, de::DeserializeOwned};

use super::{Caller, Fault, render::View};
use crate::{
    domain::{
        JobId, JobKey, Tenant, Timestamp,
        limits::{MAX_LINE_BYTES, MAX_WORD_BYTES},
        submission::{Violation, check_line},
        wording::{Sentence, sentence},
    },
    engine::{Engine, bad_token, page_size},
    proto::v1,
};

/// Reads fields one after the other and keeps what is wrong with them, so that all of it is told at once.
#[derive(Default)]
pub(super) struct Fields {
    pub(super) violations: Vec<Violation>,
}

impl Fields {
    /// Notes what is wrong with a field.
    pub(super) fn bad(&mut self, field: &str, description: impl Into<Sentence>) {
        self.violations.push(Violation::new(field, description));
    }

    /// A job's id.
    pub(super) fn job(&mut self, caller: &Caller, id: &str) -> JobKey {
        let job = id.parse().unwrap_or_else(|_| {
            let example = "01931b5e-7f3a-7cc3-98c4-dc0c0c07398f";
            self.bad(
                "job_id",
                sentence!("uuid", "must be a UUID such as {example}", example),
            );
            // Stands in until `check` refuses the request.
            uuid::Uuid::nil()
        });
        JobKey {
            tenant: caller.tenant.clone(),
            job: JobId(job),
        }
    }

    /// A view; UNSPECIFIED is the method's default.
    pub(super) fn view(&mut self, view: i32, default: View) -> View {
        match v1::View::try_from(view) {
            Ok(v1::View::Unspecified) => default,
            Ok(v1::View::Basic) => View::Basic,
            Ok(v1::View::Result) => View::Result,
            Ok(v1::View::Full) => View::Full,
            Err(_) => {
                self.bad("view", not_a("View"));
                default
            }
        }
    }

    /// A span of time within a range.
    pub(super) fn span(
        &mut self,
        field: &str,
        given: Option<prost_types::Duration>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(given) = given else {
            return default;
        };
        match Duration::try_from(given) {
            Ok(span) if range.contains(&span) => span,
            Ok(_) | Err(_) => {
                let [least, most] =
                    [range.start(), range.end()].map(|span| format!("{}s", span.as_secs_f64()));
                self.bad(
                    field,
                    sentence!("from-to", "must be from {least} to {most}", least, most),
                );
                default
            }
        }
    }

    /// A point in time.
    pub(super) fn time(&mut self, field: &str, time: prost_types::Timestamp) -> Option<Timestamp> {
        let micros = (0..1_000_000_000)
            .contains(&time.nanos)
            .then(|| time.seconds.checked_mul(1_000_000))
            .flatten()
            .and_then(|micros| micros.checked_add(i64::from(time.nanos / 1_000)));
        if micros.is_none() {
            self.bad(field, Sentence::plain("not-a-time", "is not a time"));
        }
        micros.map(Timestamp::from_micros)
    }

    /// A line for people.
    pub(super) fn line(&mut self, field: &str, text: &str) {
        check_line(text, field, MAX_LINE_BYTES, &mut self.violations);
    }

    /// Adds what the engine finds wrong with a request that is refused in any case; one that is not, it checks by itself.
    pub(super) fn besides(&mut self, check: impl FnOnce() -> Vec<Violation>) {
        if !self.violations.is_empty() {
            self.violations.extend(check());
        }
    }

    /// Refuses the request if anything was wrong.
    pub(super) fn check(self) -> Result<(), Fault> {
        match self.violations.is_empty() {
            true => Ok(()),
            false => Err(Fault::invalid(self.violations)),
        }
    }
}

/// Where pages of a list that is small begin and end.
pub(super) struct Place<'a> {
    pub(super) engine: &'a Engine,
    /// Of what list.
    pub(super) purpose: &'static [u8],
    /// Whose matters are in it; all tenants' if `None`.
    pub(super) tenant: Option<&'a Tenant>,
}

impl Place<'_> {
    fn bound_to(&self) -> [&[u8]; 1] {
        // No tenant has such a name.
        [self.tenant.map_or(b"*", |tenant| tenant.0.as_bytes())]
    }

    /// How many are wanted, and behind which place.
    pub(super) fn read<P: DeserializeOwned>(
        &self,
        size: i32,
        token: &str,
    ) -> Result<(usize, Option<P>), Fault> {
        let mut fields = Fields::default();
        let limit = page_size(size).unwrap_or_else(|violation| {
            fields.violations.push(violation);
            0
        });
        let after = match token {
            "" => None,
            token => {
                let after = self
                    .engine
                    .open_position(self.purpose, &self.bound_to(), token);
                if after.is_none() {
                    fields.violations.push(bad_token("page_token"));
                }
                after
            }
        };
        fields.check().map(|()| (limit, after))
    }

    /// Cuts a page of its surplus, which says that there is another; answers with the token for that.
    pub(super) fn next<T, P: Serialize>(
        &self,
        page: &mut Vec<T>,
        limit: usize,
        at: impl Fn(&T) -> P,
    ) -> String {
        if page.len() <= limit {
            return String::new();
        }
        page.truncate(limit);
        let last = page.last().map(at);
        last.map_or_else(String::new, |at| {
            self.engine
                .seal_position(self.purpose, &self.bound_to(), &at)
        })
    }
}

/// Reads a job's id in a request that has nothing else to check.
pub(super) fn job_key(caller: &Caller, id: &str) -> Result<JobKey, Fault> {
    let mut fields = Fields::default();
    let key = fields.job(caller, id);
    fields.check().map(|()| key)
}

/// What is wrong with a value that an enum does not have.
pub(super) fn not_a(kind: &'static str) -> Sentence {
    sentence!("not-a", "is not a {kind}", kind)
}

/// What is wrong with a list that has no entries, or too many.
pub(super) fn entries(most: usize) -> Sentence {
    sentence!("entries", "must have from 1 to {most} entries", most)
}

/// What is wrong with a number that is too large.
pub(super) fn at_most(most: u32) -> Sentence {
    sentence!("at-most", "must be at most {most}", most)
}

/// What is wrong with a word that can not name a driver.
pub(super) fn driver_name() -> Sentence {
    sentence!(
        "driver-name",
        "must be 1 to {most} characters of [A-Za-z0-9_.-]",
        most = MAX_WORD_BYTES
    )
}
