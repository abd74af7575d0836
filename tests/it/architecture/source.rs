//! Just enough of Rust's grammar to see which paths a file names: a tokenizer without comments and literals, without test code, and the paths in what is left.

/// A word or a sign, and the line that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    pub line: usize,
}

/// A path such as `crate::engine::hub`, with `use` trees spelled out and `self` and `super` left as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The inline modules of the file that it stands in.
    pub inside: Vec<String>,
    pub segments: Vec<String>,
    pub line: usize,
}

/// What a file holds besides its tests.
pub struct Source<'a> {
    pub tokens: Vec<Token<'a>>,
    /// Modules that are declared for tests only, as `#[cfg(test)] mod NAME;`.
    pub test_modules: Vec<&'a str>,
}

impl<'a> Source<'a> {
    /// Reads a file.
    pub fn parse(text: &'a str) -> Self {
        let all = tokens(text);
        let mut source = Self {
            tokens: Vec::new(),
            test_modules: Vec::new(),
        };
        let mut at = 0;
        while at < all.len() {
            match test_attribute(&all, at) {
                Some(item) => {
                    if let [.., name, end] = &all[item..item_end(&all, item)]
                        && end.text == ";"
                    {
                        source.test_modules.push(name.text);
                    }
                    at = item_end(&all, item);
                }
                None => {
                    source.tokens.push(all[at]);
                    at += 1;
                }
            }
        }
        source
    }

    /// Every path of two or more segments, and every path of a `use`.
    pub fn paths(&self) -> Vec<Path> {
        let tokens = &self.tokens;
        let text = |at: usize| tokens.get(at).map_or("", |t: &Token<'_>| t.text);
        let mut paths = Vec::new();
        let mut inside: Vec<(String, usize)> = Vec::new();
        let mut depth = 0;
        let mut at = 0;
        while at < tokens.len() {
            let modules = || inside.iter().map(|(name, _)| name.clone()).collect();
            match text(at) {
                "{" => depth += 1,
                "}" => {
                    depth -= 1;
                    if inside.last().is_some_and(|(_, opened)| *opened == depth) {
                        inside.pop();
                    }
                }
                "mod" if text(at + 2) == "{" => inside.push((text(at + 1).to_owned(), depth)),
                "use" => {
                    let mut found = Vec::new();
                    at = use_tree(tokens, at + 1, &[], &mut found);
                    paths.extend(found.into_iter().map(|(segments, line)| Path {
                        inside: modules(),
                        segments,
                        line,
                    }));
                }
                word if starts_a_path(tokens, at) => {
                    let line = tokens[at].line;
                    let mut segments = vec![word.to_owned()];
                    while text(at + 1) == "::" && is_word(text(at + 2)) {
                        segments.push(text(at + 2).to_owned());
                        at += 2;
                    }
                    if segments.len() > 1 {
                        paths.push(Path {
                            inside: modules(),
                            segments,
                            line,
                        });
                    }
                }
                _ => {}
            }
            at += 1;
        }
        paths
    }

    /// Lines on which these tokens follow each other.
    pub fn lines_of(&self, pattern: &[&str]) -> Vec<usize> {
        self.tokens
            .windows(pattern.len())
            .filter(|w| w.iter().map(|t| t.text).eq(pattern.iter().copied()))
            .map(|w| w[0].line)
            .collect()
    }
}

/// Keywords that a path with a leading `::` may follow.
const KEYWORDS: [&str; 7] = ["as", "dyn", "else", "impl", "in", "mut", "return"];

/// Whether a path begins at `at`: a word, but neither a field or method (`a.HERE`) nor a later segment (`a::HERE`).
fn starts_a_path(tokens: &[Token<'_>], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).map_or("", |i| tokens[i].text);
    let is_segment = |text| is_word(text) && !KEYWORDS.contains(&text);
    let follows = match before(1) {
        "." => true,
        "::" => before(2) == ">" || is_segment(before(2)),
        _ => false,
    };
    is_segment(tokens[at].text) && !follows
}

/// Spells out the tree that begins at `at`, and says where it ends.
fn use_tree(
    tokens: &[Token<'_>],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<(Vec<String>, usize)>,
) -> usize {
    let mut path = prefix.to_vec();
    let mut line = tokens.get(at).map_or(0, |t| t.line);
    while let Some(token) = tokens.get(at) {
        match token.text {
            "::" => {}
            "{" => {
                while tokens[at].text != "}" {
                    at = use_tree(tokens, at + 1, &path, found);
                }
                path.clear();
            }
            // The new name is no part of the path.
            "as" => at += 1,
            "," | "}" | ";" => break,
            segment => {
                line = token.line;
                path.push(segment.to_owned());
            }
        }
        at += 1;
    }
    if path.len() > prefix.len() {
        found.push((path, line));
    }
    at
}

/// If an attribute at `at` says that the item is for tests only, where the item begins.
fn test_attribute(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let text = |i: usize| tokens.get(i).map_or("", |t| t.text);
    if text(at) != "#" || text(at + 1) != "[" || text(at + 2) != "cfg" {
        return None;
    }
    let end = attribute_end(tokens, at);
    let words = || tokens[at..end].iter().map(|t| t.text);
    if !words().any(|w| w == "test") || words().any(|w| w == "not") {
        return None;
    }
    let mut item = end;
    while text(item) == "#" {
        item = attribute_end(tokens, item);
    }
    Some(item)
}

/// Behind the `]` of the attribute at `at`.
fn attribute_end(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            "[" => depth += 1,
            "]" if depth == 1 => return i + 1,
            "]" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// Behind the `;` or the closing brace of the item at `at`.
fn item_end(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            "{" => depth += 1,
            "}" if depth == 1 => return i + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return i + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Splits a text into words, numbers, `::` and single signs; comments, strings, characters and lifetimes are left out.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest) {
            length
        } else if first == '\'' {
            quote(rest)
        } else {
            let length = if is_word(rest) || first.is_ascii_digit() {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            if !first.is_whitespace() {
                found.push(Token {
                    text: &rest[..length],
                    line,
                });
            }
            length
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

/// Bytes of the comment, with those that are nested in it.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Bytes of the string literal that the text begins with, if it does, its prefix included.
fn string(text: &str) -> Option<usize> {
    let quoted = text.trim_start_matches(['b', 'c', 'r']);
    let prefix = &text[..text.len() - quoted.len()];
    if !matches!(prefix, "" | "b" | "c" | "r" | "br" | "cr") {
        return None;
    }
    if prefix.ends_with('r') {
        let body = quoted.trim_start_matches('#');
        let hashes = quoted.len() - body.len();
        let end = format!("\"{}", "#".repeat(hashes));
        let inner = body.strip_prefix('"')?;
        let start = text.len() - inner.len();
        return Some(
            inner
                .find(&end)
                .map_or(text.len(), |at| start + at + end.len()),
        );
    }
    let inner = quoted.strip_prefix('"')?;
    let start = text.len() - inner.len();
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(start + at + 1),
            _ => {}
        }
    }
    Some(text.len())
}

/// Bytes of the character literal, or of the quote of a lifetime.
fn quote(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((at, escaped))) => {
            let start = at + escaped.len_utf8();
            text[start..]
                .find('\'')
                .map_or(text.len(), |end| start + end + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let paths = Source::parse(text).paths();
        paths.iter().map(|p| p.segments.join("::")).collect()
    }

    #[test]
    fn comments_strings_characters_and_lifetimes_name_nothing() {
        let text = r####"
            // a::comment
            /* a::block /* a::nested */ still */
            fn f<'a>(x: &'a str) { g("a::string \" b::c", r#"a::raw " "#, b"a::bytes", '"', '\'', '\u{41}', x) }
            real::path;
        "####;
        assert_eq!(paths(text), ["real::path"]);
    }

    #[test]
    fn use_trees_are_spelled_out() {
        let text = "use crate::{a::{b, c as d}, e::*, f::{self}}; use ::tokio::sync; use serde;";
        assert_eq!(
            paths(text),
            [
                "crate::a::b",
                "crate::a::c",
                "crate::e::*",
                "crate::f::self",
                "tokio::sync",
                "serde"
            ]
        );
    }

    #[test]
    fn paths_in_code_are_found_once_and_methods_are_not_paths() {
        let text = "fn f() -> crate::a::B<tokio::C> { x.collect::<Vec<_>>(); <d::E as ::f::G>::h(); tracing::info!() }";
        assert_eq!(
            paths(text),
            ["crate::a::B", "tokio::C", "d::E", "f::G", "tracing::info"]
        );
    }

    #[test]
    fn test_code_is_left_out_and_its_modules_are_named() {
        let text = "a::a; #[cfg(test)] mod tests; #[cfg(test)] #[x] mod t { use b::b; fn f() {} } \
                    #[cfg(all(test, unix))] fn g() { c::c } #[cfg(not(test))] fn h() { d::d }";
        assert_eq!(paths(text), ["a::a", "d::d"]);
        assert_eq!(Source::parse(text).test_modules, ["tests"]);
    }

    #[test]
    fn inline_modules_are_known() {
        let text = "mod a { mod b { x::y } c::d } e::f";
        let paths = Source::parse(text).paths();
        let inside: Vec<_> = paths.iter().map(|p| p.inside.join("::")).collect();
        assert_eq!(inside, ["a::b", "a", ""]);
    }

    #[test]
    fn lines_are_counted_over_literals_and_comments() {
        let text = "/* \n */ \"\n\"\n a::b";
        assert_eq!(Source::parse(text).paths()[0].line, 4);
    }
}
