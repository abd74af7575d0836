//! How jobs come in by REST: described in the body on a dialect's own collection of jobs, or made of a request by a route.

use std::{sync::Arc, time::Duration};

use http::HeaderName;

use super::{
    answer::{self, Response},
    call::Call,
    dialect::{Dialect, Shared},
    routes::{self, Match, RouteInput},
};
use crate::{
    api::Fault,
    domain::Job,
    proto::{
        json::{self, InvalidJson},
        v1,
    },
};

/// Makes repeating a request safe; our `request_id`. See draft-ietf-httpapi-idempotency-key-header.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Submits the job that the body describes in the native form.
pub(super) async fn described(
    shared: Shared,
    mut call: Call,
    dialect: &dyn Dialect,
) -> Result<Response, Fault> {
    let patience = patience(&mut call, dialect);
    call.query.finish()?;
    let spec = json::of_text(call.json()?).map_err(bad_body)?;
    let job = store(&shared, &call, spec).await?;
    Ok(answered(&shared, &call, dialect, job, patience).await)
}

/// Submits the job that a route makes of the request.
pub(super) async fn routed(
    shared: Shared,
    mut call: Call,
    dialect: &dyn Dialect,
    found: Match<'_>,
) -> Result<Response, Fault> {
    let patience = patience(&mut call, dialect);
    let body = match call.json()? {
        empty if empty.is_empty() => serde_json::Value::Null,
        text => json::value(text).map_err(bad_body)?,
    };
    let input = RouteInput {
        body,
        path: found.path,
        query: call.query.each_once(),
        caller: routes::Caller {
            tenant: call.caller.tenant.to_string(),
            ..routes::Caller::default()
        },
    };
    call.query.finish()?;
    let spec = found.route.render(&input);
    let spec = spec.map_err(|fault| Fault::invalid(fault.violations))?;
    let spec = json::of_value(spec).map_err(bad_body)?;
    let job = store(&shared, &call, spec).await?;
    Ok(answered(&shared, &call, dialect, job, patience).await)
}

/// How long the caller waits for the end, in the dialect's own way or the standard's. The dialect's own counts if there are both, also if it says not to.
fn patience(call: &mut Call, dialect: &dyn Dialect) -> Option<Duration> {
    match dialect.patience(&mut call.query) {
        Some(own) => (!own.is_zero()).then_some(own),
        None => call.wait(),
    }
}

async fn store(shared: &Shared, call: &Call, spec: v1::JobSpec) -> Result<Arc<Job>, Fault> {
    let request = v1::SubmitRequest {
        job: Some(spec),
        request_id: call.idempotency_key()?.unwrap_or_default(),
    };
    let (job, _created) = shared.api.submit_job(&call.caller, request).await?;
    Ok(job)
}

/// The dialect's 202, or its 200 if the job has ended.
async fn answered(
    shared: &Shared,
    call: &Call,
    dialect: &dyn Dialect,
    job: Arc<Job>,
    patience: Option<Duration>,
) -> Response {
    // What was stored before may have ended.
    let (job, heeded) = match patience {
        Some(patience) if !job.state.is_terminal() => {
            let (polls, key) = (&shared.polls, job.key());
            let waited = polls.wait_for_stored(&shared.api, &call.caller, &key, patience);
            match waited.await {
                Some(version) => (Arc::clone(&version.job), Some(patience)),
                None => (job, None),
            }
        }
        _ => (job, patience),
    };
    let response = match job.state.is_terminal() {
        true => dialect.completed(call, &job),
        false => dialect.accepted(call, &job),
    };
    // Not heeded either if the dialect's own parameter said how long.
    let preferred = call.wait().filter(|wait| heeded == Some(*wait));
    answer::applied(response, preferred)
}

/// What is wrong with a body that has to be JSON of some form.
pub(super) fn bad_body(error: InvalidJson) -> Fault {
    let InvalidJson { path, message } = error;
    let field = path.unwrap_or_else(|| "body".to_owned());
    Fault::bad_field(&field, message)
}
