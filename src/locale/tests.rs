use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::*;
use crate::domain::wording::sentence;

/// What stands before the name of a sentence in the code.
const MAKERS: [&str; 3] = ["sentence!(", "Sentence::plain(", "Sentence::made("];
/// What stands before the name of a sentence that is chosen from several.
const CHOSEN: &str = "(Reason::";

/// The sentences of the code by name, each with its English form if that stands beside the name.
fn sentences_in(dir: &Path, found: &mut BTreeMap<String, Option<String>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sentences_in(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("\nmod tests {").next().unwrap();
            let is_doc = |line: &&str| line.trim_start().starts_with("//");
            let code: Vec<&str> = text.lines().filter(|line| !is_doc(line)).collect();
            named_in(&code.join("\n"), found);
        }
    }
}

fn named_in(code: &str, found: &mut BTreeMap<String, Option<String>>) {
    for maker in MAKERS {
        for (at, _) in code.match_indices(maker) {
            let mut literals = literals(&code[at + maker.len()..]);
            if let Some(name) = literals.next().filter(|name| is_name(name)) {
                let english = literals.next().filter(|_| maker == MAKERS[0]);
                found.insert(name.to_owned(), english.map(str::to_owned));
            }
        }
    }
    for (at, _) in code.match_indices(CHOSEN) {
        let rest = &code[at + CHOSEN.len()..];
        if let Some(name) = literals(rest).next().filter(|name| is_name(name)) {
            found.insert(name.to_owned(), None);
        }
    }
}

/// The literals at the beginning of some code, as long as nothing but commas and spaces stands before and between them.
fn literals(code: &str) -> impl Iterator<Item = &str> {
    let mut rest = code;
    std::iter::from_fn(move || {
        let opening = rest.find('"')?;
        let between = &rest[..opening];
        if !between
            .chars()
            .all(|c| c.is_alphanumeric() || c.is_whitespace() || c == ',')
        {
            return None;
        }
        rest = &rest[opening + 1..];
        let closing = rest.find('"')?;
        let literal = &rest[..closing];
        rest = &rest[closing + 1..];
        Some(literal)
    })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

/// The names of the gaps of a text, which begin like this.
fn gaps(text: &str, opening: &str) -> BTreeSet<String> {
    let after = text.split(opening).skip(1);
    let names = after.map(|rest| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        rest[..end.unwrap_or(rest.len())].to_owned()
    });
    names.filter(|name| !name.is_empty()).collect()
}

/// The French sentences by name, as they are written.
fn translations() -> BTreeMap<&'static str, String> {
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    let mut last = "";
    for line in FRENCH_SENTENCES.lines() {
        match line.split_once(" =") {
            Some((name, text)) if is_name(name) => {
                assert!(
                    found.insert(name, text.to_owned()).is_none(),
                    "{name} twice"
                );
                last = name;
            }
            _ if line.starts_with([' ', '}']) => found.get_mut(last).unwrap().push_str(line),
            _ => {}
        }
    }
    found
}

#[test]
fn every_sentence_is_said_in_french_with_the_same_gaps() {
    let mut code = BTreeMap::new();
    sentences_in(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut code,
    );
    let french = translations();
    let missing: Vec<_> = code
        .keys()
        .filter(|n| !french.contains_key(n.as_str()))
        .collect();
    assert!(missing.is_empty(), "no French for {missing:?}");
    let unused: Vec<_> = french.keys().filter(|n| !code.contains_key(**n)).collect();
    assert!(unused.is_empty(), "nobody says {unused:?}");
    for (name, english) in &code {
        if let Some(english) = english {
            let (said, known) = (gaps(&french[name.as_str()], "$"), gaps(english, "{"));
            assert!(
                said.is_subset(&known),
                "{name}: {said:?}, but there is {known:?}"
            );
        }
    }
}

/// The rules can fail.
#[test]
fn a_sentence_without_french_is_found() {
    let mut found = BTreeMap::new();
    named_in(
        "sentence!(\n  \"a-b\", \"is {x} of {y:?}\", x, y)",
        &mut found,
    );
    named_in("A => (Reason::Gone, \"gone\", None)", &mut found);
    let names: Vec<_> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["a-b", "gone"]);
    let english = found["a-b"].as_deref().unwrap();
    assert_eq!(gaps(english, "{"), ["x", "y"].map(str::to_owned).into());
}

#[test]
fn the_french_file_has_no_mistake() {
    if let Err((_, errors)) = FluentResource::try_new(FRENCH_SENTENCES.to_owned()) {
        panic!("{errors:?}");
    }
}

#[test]
fn a_reader_gets_the_first_language_that_is_spoken() {
    for (accepted, language) in [
        (None, Language::English),
        (Some(""), Language::English),
        (Some("fr"), Language::French),
        (Some("fr-CA,fr;q=0.9,en;q=0.8"), Language::French),
        (Some("de, fr;q=0.3, en;q=0.5"), Language::English),
        (Some("en-GB, fr"), Language::English),
        (Some("de"), Language::English),
        (Some("*"), Language::English),
        (Some(";;;q=fr,,"), Language::English),
        (Some("fr;q=0"), Language::English),
        (Some("fr;q=0, de"), Language::English),
        (Some("fr;q=nan"), Language::English),
        (Some("fr;q=0.501, en;q=0.5"), Language::French),
    ] {
        assert_eq!(Language::accepted(accepted), language, "{accepted:?}");
    }
}

/// A weight that is no number has no place in an order, and sorting by one can end in a panic.
#[test]
fn no_weight_stops_a_connection() {
    let list = format!(";q=.4,{};q=nan{}", ";q=.5,".repeat(10), ",".repeat(10));
    assert_eq!(Language::accepted(Some(&list)), Language::English);
}

#[test]
fn numbers_decide_between_singular_and_plural() {
    let more = |more: usize| sentence!("and-more", "and {more} more", more);
    let say = |n| Language::French.say(&more(n)).into_owned();
    assert_eq!(say(1), "et 1 autre");
    assert_eq!(say(2), "et 2 autres");
    assert_eq!(Language::English.say(&more(1)), "and 1 more");
}

#[test]
fn what_somebody_else_said_is_passed_on() {
    let said = Sentence::foreign("disk 3 is gone");
    assert_eq!(Language::French.say(&said), "disk 3 is gone");
}
