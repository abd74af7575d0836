//! docs/state-machine.md says what the code does: its table and its diagram hold the transitions of tasks, no more and no fewer.

use std::{collections::BTreeSet, fs, path::Path};

use longhaul::domain::{
    TaskState,
    transition::{TaskInput, next},
};

/// From, event, to.
type Transition = (String, String, String);

fn in_code() -> BTreeSet<Transition> {
    let mut transitions = BTreeSet::new();
    for from in TaskState::ALL {
        for input in TaskInput::ALL {
            if let Some(to) = next(from, input) {
                transitions.insert((from.name().into(), words(input), to.name().into()));
            }
        }
    }
    transitions
}

/// `FailAttempt` is "fail attempt".
fn words(input: TaskInput) -> String {
    let mut words = String::new();
    for c in format!("{input:?}").chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

/// The part of the document that is about tasks.
fn tasks_in_docs() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/state-machine.md");
    let text = fs::read_to_string(file).unwrap();
    let tasks = text.split("## Tasks").nth(1).unwrap();
    tasks.split("## Jobs").next().unwrap().to_owned()
}

#[test]
fn the_table_of_tasks_is_the_code() {
    let table = tasks_in_docs();
    let rows = table.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        match cells[..] {
            ["", from, event, to, ""] if from.chars().all(|c| c.is_uppercase() || c == '_') => {
                Some((from.to_owned(), event.to_owned(), to.to_owned()))
            }
            _ => None,
        }
    });
    assert_eq!(rows.collect::<BTreeSet<_>>(), in_code());
}

#[test]
fn the_diagram_of_tasks_is_the_code() {
    let diagram = tasks_in_docs();
    let arrows = diagram.lines().filter_map(|line| {
        let (from, rest) = line.trim().split_once(" --> ")?;
        let (to, event) = rest.split_once(": ")?;
        Some((from.to_owned(), event.to_owned(), to.to_owned()))
    });
    // What leaves a task in its state is no arrow.
    let moves = in_code().into_iter().filter(|(from, _, to)| from != to);
    assert_eq!(
        arrows.collect::<BTreeSet<_>>(),
        moves.collect::<BTreeSet<_>>()
    );
}
