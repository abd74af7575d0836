//! How a job stands, in the language of who asks: every dialect says it in the same words, which are those of gRPC.

use crate::{
    domain::{Job, job::STANDING_PARTS},
    locale::Language,
};

/// One line that explains state and status.
pub(super) fn of(job: &Job, language: Language) -> String {
    let parts = job.standing();
    let parts: Vec<_> = parts.iter().map(|part| language.say(part)).collect();
    parts.join(match language {
        Language::English => STANDING_PARTS,
        // A space stands before a semicolon.
        Language::French => " ; ",
    })
}
