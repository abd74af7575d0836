//! Takes the secrets of a task out of what its worker reports: each of them as it is and in the forms in which programs like to print it.
//!
//! Looked for are the values of at least [`LEAST_BYTES`] bytes: shorter ones are found in every other text by chance, and to mask them there would tell what
//! they are. Of values of at least [`LEAST_ENCODED_BYTES`] also what base64 makes of them, wherever they stand in what was encoded; what is escaped in URLs
//! and in JSON; and of a text of several lines each line of that length, because output is reported by the line. Numbers are not looked for, nor is a part
//! of a value, or one that was disguised in another way.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use prost::Message as _;
use prost_types::{Struct, Value, value::Kind};
use zeroize::Zeroize;

use crate::{
    domain::{Document, command::Report, secrecy::Hidden},
    proto::sensitive::{MASK, Taken},
};

/// Bytes of the shortest value that is looked for.
const LEAST_BYTES: usize = 4;
/// Bytes of the shortest value that is looked for in other forms: of shorter ones these are found by chance.
const LEAST_ENCODED_BYTES: usize = 8;
/// Bytes of the texts of sensitive fields that are looked for, the shortest ones first, which are most like passwords: each report is searched for them
/// between two commits. The secrets that have a name are all looked for; they have a limit of their own.
const MAX_FIELD_BYTES: usize = 64 * 1024;
/// What RFC 3986 leaves as it is.
const ESCAPED_IN_URLS: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Whether a report has any text.
pub(super) fn says_something(report: &Report) -> bool {
    match report {
        Report::Heartbeat | Report::CancelAcknowledged => false,
        Report::Progress { .. }
        | Report::Warning { .. }
        | Report::Success { .. }
        | Report::Failure { .. }
        | Report::Release { .. }
        | Report::Cancelled { .. } => true,
    }
}

/// What is to be taken out.
pub(super) enum Redaction {
    Nothing,
    These(AhoCorasick),
    Everything,
}

impl Redaction {
    pub(super) fn of(hidden: &Hidden) -> Self {
        let mut forms = BTreeSet::new();
        for value in hidden.secrets().values() {
            add_forms(value, &mut forms);
        }
        let mut fields = Vec::new();
        if !hidden.fields().is_empty() {
            let Ok(taken) = Taken::from_bytes(hidden.fields()) else {
                return Self::Everything;
            };
            taken.texts(|text| fields.push(text.to_owned()));
        }
        fields.sort_unstable_by_key(String::len);
        let mut room = MAX_FIELD_BYTES;
        for value in &mut fields {
            if value.len() <= room {
                room -= value.len();
                add_forms(value, &mut forms);
            }
            value.zeroize();
        }
        if forms.is_empty() {
            return Self::Nothing;
        }
        let finder = AhoCorasick::builder()
            // It is built for one report, and time goes into that more than into the search.
            .kind(Some(AhoCorasickKind::NoncontiguousNFA))
            .match_kind(MatchKind::LeftmostLongest)
            .build(&forms);
        for mut form in forms {
            form.zeroize();
        }
        // It fails for texts of gigabytes.
        finder.map_or(Self::Everything, Self::These)
    }

    /// Of a task whose secrets can not be known.
    pub(super) fn of_everything() -> Self {
        Self::Everything
    }

    pub(super) fn report(&self, report: Report) -> Report {
        match report {
            Report::Heartbeat => Report::Heartbeat,
            Report::CancelAcknowledged => Report::CancelAcknowledged,
            Report::Progress {
                progress,
                status_detail,
            } => Report::Progress {
                progress: progress.map(|mut progress| {
                    progress.unit = self.text(progress.unit);
                    progress.message = self.text(progress.message);
                    progress
                }),
                status_detail: self.text(status_detail),
            },
            Report::Warning { message } => Report::Warning {
                message: self.text(message),
            },
            Report::Success {
                result,
                status_detail,
            } => Report::Success {
                result: result.map(|result| self.document(result)),
                status_detail: self.text(status_detail),
            },
            Report::Failure {
                message,
                reason,
                permanent,
                retry_after,
                status_detail,
            } => Report::Failure {
                message: self.text(message),
                reason: self.text(reason),
                permanent,
                retry_after,
                status_detail: self.text(status_detail),
            },
            Report::Release { reason } => Report::Release {
                reason: self.text(reason),
            },
            Report::Cancelled { status_detail } => Report::Cancelled {
                status_detail: self.text(status_detail),
            },
        }
    }

    fn text(&self, text: String) -> String {
        match self {
            Self::Everything if !text.is_empty() => MASK.to_owned(),
            Self::These(finder) if finder.is_match(&text) => {
                let mut redacted = String::with_capacity(text.len());
                finder.replace_all_with(&text, &mut redacted, |_, _, redacted| {
                    redacted.push_str(MASK);
                    true
                });
                redacted
            }
            Self::Nothing | Self::These(_) | Self::Everything => text,
        }
    }

    fn document(&self, document: Document) -> Document {
        let is_clean = match self {
            Self::Nothing => true,
            // Encoded texts are in one piece.
            Self::These(finder) => !finder.is_match(document.0.as_ref()),
            Self::Everything => false,
        };
        if is_clean {
            return document;
        }
        // What is no object is nothing that could be shown.
        let mut decoded = Struct::decode(document.0).unwrap_or_default();
        self.object(&mut decoded);
        Document(decoded.encode_to_vec().into())
    }

    fn object(&self, object: &mut Struct) {
        let fields = std::mem::take(&mut object.fields);
        let fields = fields.into_iter().map(|(name, mut value)| {
            self.value(&mut value);
            // With a key that is not here names stay: there would be but one left.
            match self {
                Self::These(_) => (self.text(name), value),
                Self::Nothing | Self::Everything => (name, value),
            }
        });
        object.fields = fields.collect();
    }

    fn value(&self, value: &mut Value) {
        match &mut value.kind {
            Some(Kind::StringValue(text)) => *text = self.text(std::mem::take(text)),
            Some(Kind::StructValue(inner)) => self.object(inner),
            Some(Kind::ListValue(list)) => {
                list.values.iter_mut().for_each(|value| self.value(value));
            }
            Some(Kind::NullValue(_) | Kind::NumberValue(_) | Kind::BoolValue(_)) | None => {}
        }
    }
}

/// The forms in which a value is looked for.
fn add_forms(value: &str, forms: &mut BTreeSet<String>) {
    if value.len() < LEAST_BYTES {
        return;
    }
    forms.insert(value.to_owned());
    if value.trim().len() >= LEAST_BYTES {
        forms.insert(value.trim().to_owned());
    }
    if value.len() < LEAST_ENCODED_BYTES {
        return;
    }
    for line in value.lines().map(str::trim) {
        if line.len() >= LEAST_ENCODED_BYTES {
            forms.insert(line.to_owned());
        }
    }
    for at in 0..3 {
        forms.insert(within_base64(value, at, |bytes| {
            STANDARD_NO_PAD.encode(bytes)
        }));
        forms.insert(within_base64(value, at, |bytes| {
            URL_SAFE_NO_PAD.encode(bytes)
        }));
    }
    let in_url = utf8_percent_encode(value, ESCAPED_IN_URLS).to_string();
    forms.insert(lower_escapes(&in_url));
    forms.insert(in_url.replace("%20", "+"));
    forms.insert(in_url);
    if let Ok(in_json) = serde_json::to_string(value) {
        forms.insert(in_json[1..in_json.len() - 1].to_owned());
    }
}

/// What base64 makes of a value that stands so many bytes behind a multiple of three: the characters that depend on nothing else.
fn within_base64(value: &str, at: usize, encode: impl Fn(&[u8]) -> String) -> String {
    let mut bytes = vec![0; at];
    bytes.extend_from_slice(value.as_bytes());
    let mut encoded = encode(&bytes);
    bytes.zeroize();
    // The first character with a bit of the value alone, and the last one.
    let from = (at * 8).div_ceil(6);
    let to = (at + value.len()) * 8 / 6;
    let within = encoded[from..to].to_owned();
    encoded.zeroize();
    within
}

/// `%2F` as `%2f`.
fn lower_escapes(text: &str) -> String {
    let mut lowered = String::with_capacity(text.len());
    let mut escaped = 0;
    for c in text.chars() {
        if c == '%' {
            escaped = 2;
            lowered.push(c);
        } else if escaped > 0 {
            escaped -= 1;
            lowered.push(c.to_ascii_lowercase());
        } else {
            lowered.push(c);
        }
    }
    lowered
}
