//! Who is calling, and the checks that many methods share.

use std::time::Duration;

use tonic::Status;

use super::error;
use crate::domain::{JobId, JobKey, Tenant, limits::MAX_LINE_BYTES};

/// The tenant of callers without a credential.
const DEFAULT_TENANT: &str = "default";

/// The tenant that a call acts for.
pub(super) fn tenant<T>(_request: &tonic::Request<T>) -> Tenant {
    Tenant::new(DEFAULT_TENANT)
}

/// Reads a job's id.
pub(super) fn job_key(tenant: Tenant, id: &str) -> Result<JobKey, Status> {
    match id.parse() {
        Ok(id) => Ok(JobKey {
            tenant,
            job: JobId(id),
        }),
        Err(_) => Err(error::bad_field(
            "job_id",
            "must be a UUID such as 01931b5e-7f3a-7cc3-98c4-dc0c0c07398f",
        )),
    }
}

/// Reads a span; negative ones and those that are out of range are refused.
pub(super) fn span(
    field: &str,
    given: Option<prost_types::Duration>,
    default: Duration,
    range: std::ops::RangeInclusive<Duration>,
) -> Result<Duration, Status> {
    let Some(given) = given else {
        return Ok(default);
    };
    match Duration::try_from(given) {
        Ok(span) if range.contains(&span) => Ok(span),
        Ok(_) | Err(_) => Err(error::bad_field(
            field,
            &format!("must be from {:?} to {:?}", range.start(), range.end()),
        )),
    }
}

/// Refuses a line that is too long.
pub(super) fn line(field: &str, text: &str) -> Result<(), Status> {
    if text.len() > MAX_LINE_BYTES {
        let description = format!("must be at most {MAX_LINE_BYTES} bytes");
        return Err(error::bad_field(field, &description));
    }
    Ok(())
}
