//! What is said to people, in their language: English is where a sentence is made, French in `fr.ftl`.
//!
//! Must not know what a sentence is about.

pub(crate) mod preference;

use std::{borrow::Cow, sync::LazyLock};

use fluent_bundle::{FluentArgs, FluentResource, FluentValue, concurrent::FluentBundle};
use unic_langid::LanguageIdentifier;

use crate::domain::wording::{Argument, Sentence};

/// The French sentences, each under the name that it has in the code.
const FRENCH_SENTENCES: &str = include_str!("locale/fr.ftl");
/// Bytes of a list of languages: a longer one is no reader's choice.
const MAX_ACCEPTED_BYTES: usize = 256;

static FRENCH_BUNDLE: LazyLock<FluentBundle<FluentResource>> = LazyLock::new(|| {
    let french: LanguageIdentifier = "fr".parse().unwrap_or_default();
    let mut bundle = FluentBundle::new_concurrent(vec![french]);
    // The marks around what stands in a gap are for mixed writing directions, and show up in terminals.
    bundle.set_use_isolating(false);
    let sentences = match FluentResource::try_new(FRENCH_SENTENCES.to_owned()) {
        Ok(sentences) => sentences,
        // A test finds what is wrong with them; the others are good.
        Err((sentences, _errors)) => sentences,
    };
    bundle.add_resource_overriding(sentences);
    bundle
});

/// A language that is spoken here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// What everything is written in.
    #[default]
    English,
    /// `Accept-Language: fr`.
    French,
}

impl Language {
    /// The best one for a reader who accepts these (RFC 9110, `Accept-Language`); English if none of them is spoken here.
    pub fn accepted(languages: Option<&str>) -> Self {
        let Some(languages) = languages.filter(|list| list.len() <= MAX_ACCEPTED_BYTES) else {
            return Self::English;
        };
        let spoken = preference::wanted(languages).find_map(|tag| {
            let primary = tag.split('-').next().unwrap_or_default();
            let is = |language: &str| primary.eq_ignore_ascii_case(language);
            match () {
                () if is("fr") => Some(Self::French),
                () if is("en") => Some(Self::English),
                () => None,
            }
        });
        spoken.unwrap_or_default()
    }

    /// Its BCP 47 tag.
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::French => "fr",
        }
    }

    /// A sentence in this language; in English if there is no translation, such as of what a worker said.
    pub fn say(self, sentence: &Sentence) -> Cow<'_, str> {
        match self {
            Self::English => Cow::Borrowed(sentence.english()),
            Self::French => {
                let french = french(sentence);
                french.map_or(Cow::Borrowed(sentence.english()), Cow::Owned)
            }
        }
    }
}

fn french(sentence: &Sentence) -> Option<String> {
    let bundle = &*FRENCH_BUNDLE;
    let pattern = bundle.get_message(sentence.id())?.value()?;
    let mut arguments = FluentArgs::with_capacity(sentence.arguments().len());
    for (name, argument) in sentence.arguments() {
        let value = match argument {
            Argument::Number(number) => FluentValue::from(*number),
            Argument::Text(text) => FluentValue::from(text.as_str()),
        };
        arguments.set(*name, value);
    }
    let mut errors = Vec::new();
    let said = bundle.format_pattern(pattern, Some(&arguments), &mut errors);
    errors.is_empty().then(|| said.into_owned())
}

#[cfg(test)]
mod tests;
