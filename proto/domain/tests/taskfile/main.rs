//! Reading tasks files: what is accepted, and what exactly is said about what is not.

mod mistakes;
mod reading;
mod schema;

use nettailor_domain::taskfile::TasksFile;

#[track_caller]
fn parse(text: &str) -> TasksFile {
    TasksFile::parse(text).unwrap_or_else(|problems| panic!("not accepted:\n{problems}"))
}

/// The problems of `text`, one a line.
#[track_caller]
fn problems(text: &str) -> Vec<String> {
    let problems = TasksFile::parse(text).expect_err("accepted");
    let lines: Vec<String> = problems.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), problems.len(), "one line each");
    lines
}

const SMALL: &str = "version: 1\nbackbone: lite0\ntasks:\n- name: digits\n  data: {path: digits}\n";

/// A change to the small file, and the one line it gives.
#[track_caller]
fn one(text: &str, expected: &str) {
    assert_eq!(problems(text), [expected], "{text}");
}

/// The small file with more settings of its task.
fn with(settings: &str) -> String {
    format!("{SMALL}  {settings}\n")
}
