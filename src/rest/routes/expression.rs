//! One expression of a template, `body.name`: checked and compiled at start, evaluated for each request.
//!
//! An expression is a formula over the request and the caller and nothing else. The environment is empty but for the filters below: no globals,
//! no functions, no methods, no loader. There is no loop and no recursion, a token limit bounds the steps, and nothing can multiply the size of
//! a text; so each evaluation ends soon, whatever the request holds.

use std::{fmt, sync::LazyLock};

use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};

use super::filters;
use crate::domain::wording::{Sentence, sentence};

/// Tokens of an expression. No expression of a documented API needs a third of it.
const MAX_TOKENS: usize = 100;
/// Steps of one evaluation: what the tokens allow never takes as many, so this is the second lock on the same door.
const FUEL: u64 = 1_000;
/// What an expression may refer to.
pub(super) const ROOTS: [&str; 4] = ["body", "path", "query", "caller"];
/// What there is to know about the caller.
const CALLER: [&str; 2] = ["tenant", "name"];
/// Words that are no call when a parenthesis follows.
const KEYWORDS: [&str; 7] = ["and", "or", "not", "in", "is", "if", "else"];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    filters::add_to(&mut environment);
    environment
});

/// A checked expression.
pub(super) struct Expression {
    source: String,
    compiled: minijinja::Expression<'static, 'static>,
    /// Fields that it refers to by name.
    names: Vec<String>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.source).finish()
    }
}

impl Expression {
    /// Checks and compiles an expression of a route whose path has these parameters.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(source: &str, parameters: &[&str]) -> Result<Self, String> {
        let source = source.trim();
        if source.is_empty() {
            return Err("the expression is empty; write one like {{ body.name }}".to_owned());
        }
        check_tokens(&tokens(source)?)?;
        let compiled = ENVIRONMENT
            .compile_expression_owned(source.to_owned())
            .map_err(|error| format!("`{source}` is no expression: {}", told(&error)))?;
        let mut names: Vec<String> = compiled.undeclared_variables(true).into_iter().collect();
        names.sort_unstable();
        for name in &names {
            check_name(name, parameters)?;
        }
        Ok(Self {
            source: source.to_owned(),
            compiled,
            names,
        })
    }

    /// The value for a request; never undefined.
    ///
    /// # Errors
    /// What the request lacks, or what can not be done with its values.
    pub(super) fn evaluate(&self, input: &Value) -> Result<Value, Sentence> {
        match self.compiled.eval(input.clone()) {
            Ok(value) if value.is_undefined() => Err(self.missing(input)),
            Ok(value) => Ok(value),
            Err(error) if is_about_missing(&error) => Err(self.missing(input)),
            Err(error) => Err(sentence!(
                "expression-failed",
                "`{expression}`: {what}",
                expression = self.source,
                what = told(&error)
            )),
        }
    }

    fn missing(&self, input: &Value) -> Sentence {
        let missing: Vec<String> = self
            .names
            .iter()
            .filter_map(|name| first_missing(name, input))
            .map(|name| format!("`{name}`"))
            .collect();
        match missing.is_empty() {
            true => sentence!(
                "expression-misses",
                "`{expression}` refers to a field that the request does not have",
                expression = self.source,
            ),
            false => sentence!(
                "request-misses",
                "needs {fields}, which the request does not have",
                fields = missing.join(", "),
            ),
        }
    }
}

/// The shortest beginning of a path that leads nowhere.
fn first_missing(name: &str, input: &Value) -> Option<String> {
    let mut value = input.clone();
    let mut seen = String::new();
    for part in name.split('.') {
        if !seen.is_empty() {
            seen.push('.');
        }
        seen.push_str(part);
        value = value.get_attr(part).unwrap_or(Value::UNDEFINED);
        if value.is_undefined() {
            return Some(seen);
        }
    }
    None
}

/// Operators say of an undefined operand that its type does not fit.
fn is_about_missing(error: &minijinja::Error) -> bool {
    error.kind() == ErrorKind::UndefinedError
        || error.detail().is_some_and(|d| d.contains("undefined"))
}

/// What the library says, in words of ours where a request can bring it about.
fn told(error: &minijinja::Error) -> String {
    match error.kind() {
        ErrorKind::OutOfFuel => "takes too many steps".to_owned(),
        kind => error
            .detail()
            .map_or_else(|| kind.to_string(), str::to_owned),
    }
}

fn check_name(name: &str, parameters: &[&str]) -> Result<(), String> {
    let mut parts = name.split('.');
    let root = parts.next().unwrap_or_default();
    let field = parts.next();
    if !ROOTS.contains(&root) {
        return Err(format!(
            "`{root}` is unknown; an expression may refer to {}",
            ROOTS.join(", ")
        ));
    }
    let known = match root {
        "path" => parameters,
        "caller" => &CALLER[..],
        _ => return Ok(()),
    };
    match field {
        Some(field) if !known.contains(&field) => Err(match known.is_empty() {
            true => format!("there is no `{root}.{field}`: the path has no parameters"),
            false => format!(
                "there is no `{root}.{field}`; there is {}",
                known.join(", ")
            ),
        }),
        _ => Ok(()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Text,
    Number,
    Symbol(char),
}

/// The tokens of an expression, as far as the checks below need them.
fn tokens(source: &str) -> Result<Vec<Token<'_>>, String> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let word = |rest: &str| {
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len())
        };
        let (token, length) = match first {
            c if c.is_whitespace() => {
                rest = rest.trim_start();
                continue;
            }
            '"' | '\'' => {
                let end = end_of_text(rest)
                    .ok_or_else(|| format!("a text in `{source}` has no end; close its quotes"))?;
                (Token::Text, end)
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = word(rest);
                (Token::Word(&rest[..end]), end)
            }
            '0'..='9' => (Token::Number, word(rest)),
            symbol => (Token::Symbol(symbol), symbol.len_utf8()),
        };
        tokens.push(token);
        rest = &rest[length..];
    }
    Ok(tokens)
}

/// The length of the quoted text that something begins with.
pub(super) fn end_of_text(rest: &str) -> Option<usize> {
    let quote = rest.chars().next()?;
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Refuses what the library would find out too late, or not at all.
fn check_tokens(tokens: &[Token<'_>]) -> Result<(), String> {
    if tokens.len() > MAX_TOKENS {
        return Err(format!(
            "the expression has {} tokens; at most {MAX_TOKENS} are allowed",
            tokens.len()
        ));
    }
    let at = |i: usize| tokens.get(i).copied();
    let before = |i: usize, n: usize| i.checked_sub(n).and_then(at);
    for (i, token) in tokens.iter().enumerate() {
        let after_dot = before(i, 1) == Some(Token::Symbol('.'));
        match token {
            Token::Symbol('*') => {
                return Err(
                    "`*` is not available, as it also repeats texts; write `a | times(b)`"
                        .to_owned(),
                );
            }
            Token::Symbol('|') => check_filter(at(i + 1), at(i + 2), at(i + 3))?,
            Token::Word("is") if !after_dot => {
                let named = match at(i + 1) {
                    Some(Token::Word("not")) => at(i + 2),
                    other => other,
                };
                match named {
                    Some(Token::Word(name)) if !filters::TESTS.contains(&name) => {
                        return Err(format!(
                            "there is no test `is {name}`; there is {}",
                            filters::TESTS.join(", ")
                        ));
                    }
                    _ => {}
                }
            }
            Token::Symbol('(') => check_call(before(i, 1), before(i, 2))?,
            _ => {}
        }
    }
    Ok(())
}

/// A filter is known, and has an argument where it needs one and only there.
fn check_filter(
    name: Option<Token<'_>>,
    next: Option<Token<'_>>,
    next_but_one: Option<Token<'_>>,
) -> Result<(), String> {
    let Some(Token::Word(name)) = name else {
        return Err("after `|` the name of a filter is missing".to_owned());
    };
    if !filters::FILTERS.contains(&name) {
        return Err(format!(
            "there is no filter `{name}`; there is {}",
            filters::FILTERS.join(", ")
        ));
    }
    let has_argument = next == Some(Token::Symbol('('));
    let has_value = has_argument && next_but_one != Some(Token::Symbol(')'));
    if filters::WITH_ARGUMENT.contains(&name) && !has_value {
        return Err(format!(
            "the filter `{name}` needs an argument; write `{name}(…)`"
        ));
    }
    if has_argument && !filters::WITH_ARGUMENT.contains(&name) && name != filters::WITH_OPTION {
        return Err(format!("the filter `{name}` has no argument"));
    }
    Ok(())
}

/// A parenthesis groups, or gives a filter its arguments; it never calls.
fn check_call(last: Option<Token<'_>>, last_but_one: Option<Token<'_>>) -> Result<(), String> {
    let called = match last {
        Some(Token::Word(_)) if last_but_one == Some(Token::Symbol('|')) => return Ok(()),
        Some(Token::Word(word))
            if KEYWORDS.contains(&word) && last_but_one != Some(Token::Symbol('.')) =>
        {
            return Ok(());
        }
        Some(Token::Word(word)) => format!("`{word}`"),
        Some(Token::Symbol(')' | ']' | '}') | Token::Text | Token::Number) => "a value".to_owned(),
        _ => return Ok(()),
    };
    Err(format!(
        "{called} can not be called: there are no functions and no methods; the filters are {}",
        filters::FILTERS.join(", ")
    ))
}
