//! Who is calling.

use crate::{
    domain::{Tenant, limits::MAX_TRACEPARENT_BYTES},
    locale::Language,
};

/// The tenant of callers without a credential.
const DEFAULT_TENANT: &str = "default";
/// `00-<32 hex>-<16 hex>-<2 hex>`; later versions of the trace context may only add to that.
const LEAST_TRACEPARENT_BYTES: usize = 55;

/// For whom a method is carried out.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The tenant that the call acts for.
    pub(crate) tenant: Tenant,
    /// The call's W3C trace context, which workers get with the lease; empty if there is none.
    pub(crate) traceparent: String,
    /// What the reader of messages reads.
    pub(crate) language: Language,
}

impl Caller {
    /// A caller without a credential.
    pub(crate) fn anonymous(traceparent: String, language: Language) -> Self {
        Self {
            tenant: Tenant::new(DEFAULT_TENANT),
            traceparent,
            language,
        }
    }
}

/// A trace context as a call brings it. One that can not be right is ignored, as its standard asks: no job fails for it.
pub(crate) fn traceparent(value: Option<&str>) -> String {
    value
        .filter(|value| (LEAST_TRACEPARENT_BYTES..=MAX_TRACEPARENT_BYTES).contains(&value.len()))
        .filter(|value| !value.chars().any(char::is_control))
        .unwrap_or_default()
        .to_owned()
}
