//! What is said in each language, and that it fits.

use uuid::Uuid;

use super::*;
use crate::domain::command::Refusal;

#[test]
fn every_refusal_is_said_in_french_with_what_it_is_about() {
    let job = JobId(Uuid::from_u128(7));
    let request_id = "r-1".to_owned();
    for refusal in [
        Refusal::JobNotFound(job),
        Refusal::RequestIdReused { request_id, job },
        Refusal::ParentNotFound(job),
        Refusal::ParentEnded(job),
        Refusal::TooDeep(job),
        Refusal::JobNotEnded(job),
        Refusal::JobSucceeded(job),
        Refusal::ResultTooLarge,
        Refusal::LeaseLost,
    ] {
        let english = refusal.to_string();
        let fault = Fault::from(refusal);
        let french = fault.text(Language::French);
        assert_eq!(fault.text(Language::English), english);
        assert_ne!(french, english);
        assert_eq!(french.contains(&job.to_string()), fault.job.is_some());
    }
}

#[test]
fn bad_fields_are_told_in_the_callers_language_and_in_english() {
    let violations = vec![
        Violation::new("job", Sentence::plain("required", "is required")),
        Violation::new("view", sentence!("not-a", "is not a {kind}", kind = "View")),
    ];
    let rpc = Fault::invalid(violations).to_rpc(Language::French);
    assert_eq!(
        rpc.message,
        "2 fields of the request are bad: job: is required; view: is not a View"
    );
    let details = tonic_types::StatusExt::get_error_details(&tonic::Status::with_details(
        tonic::Code::InvalidArgument,
        "",
        rpc.encode_to_vec().into(),
    ));
    let localized = details.localized_message().unwrap();
    assert_eq!(localized.locale, "fr");
    assert_eq!(
        localized.message,
        "2 champs de la requête sont incorrects: job: est requis; view: n'est pas une valeur de View"
    );
}

/// What clients of gRPC take by default, with some room for what else is in the trailers.
#[test]
fn an_error_fits_the_trailers_of_every_client() {
    let many = |count: usize, bytes: usize| {
        let violation = |n| Violation::new(format!("f{n}"), "é".repeat(bytes / 2));
        (0..count).map(violation).collect()
    };
    for (count, bytes) in [(1, 60_000), (60, 90), (1_000, 20), (20, 4_000)] {
        for language in [Language::English, Language::French] {
            let rpc = Fault::invalid(many(count, bytes)).to_rpc(language);
            let in_base64 = rpc.encoded_len().div_ceil(3) * 4;
            let percent_encoded = rpc.message.len() * 3;
            let sent = in_base64 + percent_encoded;
            assert!(sent < 7_800, "{count} × {bytes}: {sent}");
            let bad = rpc
                .details
                .iter()
                .find(|d| d.type_url.ends_with("BadRequest"));
            let bad = pb::BadRequest::decode(&*bad.unwrap().value).unwrap();
            assert!(!bad.field_violations.is_empty(), "{count} × {bytes}");
            assert!(!rpc.message.is_empty(), "{count} × {bytes}");
        }
    }
}
