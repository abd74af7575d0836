//! The names of a job's tasks and what they depend on: whatever is wrong is named, cycles with their tasks, and in bounds.

use longhaul::domain::{
    limits::*,
    submission::{NewJob, NewTask},
};

use crate::{
    submissions::{check, job, wrong},
    world::{new_job, new_task},
};

#[test]
fn names_and_dependencies() {
    let wrong_of = |tasks: Vec<NewTask>| {
        let violations = check(NewJob { tasks, ..job() }).expect_err("refused");
        assert_eq!(violations.len(), 1, "{violations:?}");
        (
            violations[0].field.clone(),
            violations[0].description.to_string(),
        )
    };
    let (field, why) = wrong_of(vec![new_task("a", &[]), new_task("a", &[])]);
    assert_eq!(
        (field.as_str(), why.as_str()),
        ("job.tasks[1].name", "\"a\" is the name of tasks[0] already")
    );
    let (field, _) = wrong_of(vec![new_task("task-2", &[]), new_task("", &[])]);
    assert_eq!(
        field, "job.tasks[1].name",
        "a name that is made up counts as well"
    );
    let (field, why) = wrong_of(vec![new_task("a", &[]), new_task("b", &["a", "ghost"])]);
    assert_eq!(
        (field.as_str(), why.as_str()),
        (
            "job.tasks[1].depends_on[1]",
            "no task of this job is named \"ghost\""
        )
    );
    let (field, why) = wrong_of(vec![new_task("a", &["a"])]);
    assert_eq!(
        (field.as_str(), why.as_str()),
        ("job.tasks[0].depends_on", "a cycle: a -> a")
    );
    let (field, why) = wrong_of(vec![
        new_task("x", &["a"]),
        new_task("a", &["b"]),
        new_task("b", &["c"]),
        new_task("c", &["a"]),
    ]);
    assert_eq!(
        (field.as_str(), why.as_str()),
        ("job.tasks[1].depends_on", "a cycle: a -> b -> c -> a")
    );

    let checked = check(new_job([
        new_task("", &[]),
        new_task("", &["task-1", "task-1"]),
    ]))
    .expect("fine");
    assert_eq!(checked.tasks[1].name, "task-2");
    assert_eq!(checked.tasks[1].depends_on, [0], "twice is once");
}

#[test]
fn each_cycle_is_told() {
    let violations = check(new_job([
        new_task("a", &["b"]),
        new_task("b", &["a", "fine"]),
        new_task("c", &["a", "c"]),
        new_task("fine", &[]),
        new_task("d", &["fine", "e"]),
        new_task("e", &["d"]),
    ]))
    .expect_err("refused");
    let told: Vec<_> = violations
        .iter()
        .map(|v| (v.field.as_str(), v.description.english()))
        .collect();
    assert_eq!(
        told,
        [
            ("job.tasks[0].depends_on", "a cycle: a -> b -> a"),
            ("job.tasks[2].depends_on", "a cycle: c -> c"),
            ("job.tasks[4].depends_on", "a cycle: d -> e -> d"),
        ]
    );
}

#[test]
fn cycles_that_share_their_tasks_are_told_in_bounds() {
    let names: Vec<String> = (0..300).map(|i| format!("t{i}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let violations = check(new_job(all.iter().map(|name| new_task(name, &all))));
    let told = violations.expect_err("refused").len();
    assert!((1..=names.len()).contains(&told), "{told}");
}

#[test]
fn a_long_cycle_is_told_in_part() {
    let names: Vec<String> = (0..MAX_TASKS)
        .map(|i| format!("{i}{}", "é".repeat(60)))
        .collect();
    let tasks = names.iter().enumerate().map(|(i, name)| NewTask {
        depends_on: vec![names[(i + 1) % MAX_TASKS].clone()],
        ..new_task(name, &[])
    });
    let violations = check(new_job(tasks)).expect_err("refused");
    let cycle = violations.last().expect("one").description.english();
    assert!(
        cycle.starts_with("a cycle: 0é") && cycle.contains("-> (980 more) -> 0é"),
        "{cycle}"
    );
    assert!(cycle.len() < 4_096);
}

#[test]
fn no_dependency_is_left_out_in_silence() {
    let mut names = vec!["a"; MAX_TASKS];
    names.push("ghost");
    let job = new_job([new_task("a", &[]), new_task("b", &names)]);
    assert_eq!(wrong(job), ["job.tasks[1].depends_on"]);
}
