//! Faults as gRPC says them.

use prost::{Message as _, bytes::Bytes};
use tonic::{Code, Response, Status};

use crate::{
    api::{Fault, Reason},
    locale::Language,
};

/// The answer of a method.
pub(super) fn answer<T>(
    outcome: Result<T, Fault>,
    language: Language,
) -> Result<Response<T>, Status> {
    outcome
        .map(Response::new)
        .map_err(|fault| status(&fault, language))
}

/// A fault as a status with details.
pub(crate) fn status(fault: &Fault, language: Language) -> Status {
    let rpc = fault.to_rpc(language);
    let code = Code::from(rpc.code);
    let details = Bytes::from(rpc.encode_to_vec());
    Status::with_details(code, rpc.message, details)
}

/// An error that tonic found in a request, as we say it: malformed input is not our fault, and every error has a reason.
pub(crate) fn foreign(status: Status) -> Status {
    if !status.details().is_empty() {
        return status;
    }
    let reason = match status.code() {
        Code::OutOfRange => Reason::MessageTooLarge,
        // We have none of our own: it is a message that is missing, cut off, or not framed as gRPC frames it.
        Code::Internal => Reason::MalformedMessage,
        // No such method, or a compression that is not spoken here.
        Code::Unimplemented => Reason::NotSupported,
        _ => return status,
    };
    let fault = Fault::new(reason, status.message());
    self::status(&fault, Language::English)
}
