//! Texts that are found wherever they are, and where they were found.

use std::collections::BTreeMap;

use aho_corasick::AhoCorasick;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use uuid::Uuid;

/// Places that a flight goes by; with the masking off there is a text in each.
pub const PLACES: [&str; 15] = [
    "submitted",
    "got",
    "listed",
    "waited for",
    "watched",
    "watched with all",
    "events",
    "explained",
    "over REST",
    "over server-sent events",
    "in a dialect",
    "by the command line",
    "retried",
    "cancelled",
    "stored",
];

/// A text, whose core is like no other. Around it is what programs like to escape.
#[derive(Clone, Debug)]
pub struct Bird {
    pub text: String,
    core: String,
}

impl Bird {
    fn new() -> Self {
        let core = Uuid::new_v4().simple().to_string();
        Self {
            text: format!("\"{core}\"/ü \\ &?"),
            core,
        }
    }

    /// The core in all forms that show it: as it is, as base64 wherever that begins, and as bytes in hexadecimal.
    fn forms(&self) -> Vec<String> {
        let hex: String = self
            .core
            .bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let base64 = (0..3).map(|at| {
            let text = format!("{}{}", "\0".repeat(at), self.core);
            let encoded = STANDARD_NO_PAD.encode(text);
            // Without the characters to which neighbours belong.
            encoded[(at * 8).div_ceil(6)..encoded.len() - 2].to_owned()
        });
        base64.chain([self.core.clone(), hex]).collect()
    }
}

/// One for each way into a job.
pub struct Birds {
    /// A secret with a name.
    pub secret: Bird,
    /// A field that the caller says is sensitive.
    pub field: Bird,
    /// A field with a name that says so.
    pub named: Bird,
    /// An element of a list of names and values.
    pub listed: Bird,
    /// In the request of a route.
    pub routed: Bird,
}

impl Birds {
    pub fn new() -> Self {
        Self {
            secret: Bird::new(),
            field: Bird::new(),
            named: Bird::new(),
            listed: Bird::new(),
            routed: Bird::new(),
        }
    }

    pub fn all(&self) -> [&Bird; 5] {
        let Self {
            secret,
            field,
            named,
            listed,
            routed,
        } = self;
        [secret, field, named, listed, routed]
    }
}

/// What was seen where.
pub struct Sight {
    finder: AhoCorasick,
    /// By place how often it was looked at, and the first things that were found there.
    seen: BTreeMap<&'static str, (usize, Vec<String>)>,
}

impl Sight {
    pub fn new(birds: &Birds) -> Self {
        let forms = birds.all().into_iter().flat_map(Bird::forms);
        let finder = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(forms);
        Self {
            finder: finder.unwrap(),
            seen: BTreeMap::new(),
        }
    }

    /// Looks at what came from a place.
    pub fn look(&mut self, place: &'static str, what: &str, bytes: &[u8]) {
        let (looks, found) = self.seen.entry(place).or_default();
        *looks += 1;
        if let Some(bird) = self.finder.find(bytes) {
            let from = bird.start().saturating_sub(60);
            let around = &bytes[from..bytes.len().min(bird.end() + 20)];
            found.push(format!("{what}: …{}…", String::from_utf8_lossy(around)));
        }
    }

    /// Whether there are all of these texts.
    pub fn finds(&self, bytes: &[u8], birds: &[&Bird]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        birds.iter().all(|bird| text.contains(&bird.core))
    }

    /// All places were looked at, and there was nothing.
    #[track_caller]
    pub fn saw_nothing(&self) {
        for place in PLACES.iter().chain(&["refused", "reported", "logged"]) {
            let (looks, found) = self.seen.get(place).cloned().unwrap_or_default();
            assert!(looks > 0, "nobody looked at what was {place}");
            assert!(found.is_empty(), "{place}: {found:#?}");
        }
    }

    /// There was something in each place.
    #[track_caller]
    pub fn saw_all(&self) {
        for place in PLACES {
            let (looks, found) = self.seen.get(place).cloned().unwrap_or_default();
            assert!(!found.is_empty(), "{place}: nothing in {looks} looks");
        }
    }
}
