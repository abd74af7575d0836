//! What the gateway says of itself: the OpenAPI document, and a page that renders it, all of which comes from here.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::future;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use utoipa_swagger_ui::Config;

use super::{
    answer::{self, Response},
    call::Call,
    dialect::Endpoint,
    openapi,
};
use crate::{
    api::{Fault, Reason},
    domain::{access::Permission, wording::sentence},
};

/// Where the page is.
const PAGE: &str = "/docs";
const CONTENT_SECURITY_POLICY: HeaderName = header::CONTENT_SECURITY_POLICY;
/// The page and what it loads come from here, whatever a job's text might try.
const FROM_HERE: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'";

/// The endpoints. The document is made when it is first asked for, and kept.
pub(super) fn endpoints(document: impl Fn() -> Bytes + Send + Sync + 'static) -> Vec<Endpoint> {
    let config = Arc::new(Config::from(openapi::DOCUMENT));
    let made = OnceLock::new();
    let document = Endpoint::new(
        Method::GET,
        Permission::Identified,
        openapi::DOCUMENT,
        move |_, mut call: Call| {
            let unknown = call.query.finish();
            let answer =
                unknown.map(|()| answer::json(StatusCode::OK, made.get_or_init(&document).clone()));
            future::ready(answer)
        },
    );
    let page = |path: &str| {
        let config = Arc::clone(&config);
        Endpoint::new(
            Method::GET,
            Permission::Identified,
            path,
            move |_, call: Call| {
                let config = Arc::clone(&config);
                async move { file(&call, config) }
            },
        )
    };
    let root = Endpoint::new(Method::GET, Permission::Identified, "/", |_, _| async {
        Ok(moved(PAGE))
    });
    vec![
        document,
        root,
        page(PAGE),
        page(&format!("{PAGE}/{{file}}")),
    ]
}

fn file(call: &Call, config: Arc<Config<'static>>) -> Result<Response, Fault> {
    // What the page loads is named from its folder on.
    if call.uri.path() == PAGE {
        return Ok(moved(PAGE));
    }
    let name = call.gap("file");
    let Ok(Some(file)) = utoipa_swagger_ui::serve(name, config) else {
        let message = sentence!("no-page", "there is no page {name}", name);
        return Err(Fault::new(Reason::PathNotFound, message));
    };
    let kind = HeaderValue::from_str(&file.content_type);
    let kind = kind.unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let mut response = answer::typed(StatusCode::OK, kind, file.bytes.into_owned());
    if file.gzpipped {
        response = answer::with(response, header::CONTENT_ENCODING, "gzip");
    }
    let response = answer::with(response, CONTENT_SECURITY_POLICY, FROM_HERE);
    Ok(answer::with(
        response,
        header::CACHE_CONTROL,
        "max-age=3600",
    ))
}

fn moved(folder: &str) -> Response {
    let response = answer::empty(StatusCode::TEMPORARY_REDIRECT);
    answer::with(response, header::LOCATION, &format!("{folder}/"))
}
