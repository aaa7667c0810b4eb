//! Owner of stdout and stderr. Data go to stdout in the format that was asked for; everything else goes to stderr.

mod render;
mod yaml;

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use console::style;
use serde::Serialize;

pub(crate) use render::{Column, Detail, Row, Sheet, fields, first_line, table};

use crate::error::Error;

/// How data are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// All columns.
    Wide,
    /// JSON; its keys are stable.
    Json,
    /// The same as YAML.
    Yaml,
    /// Names (or ids) alone, one a line.
    Name,
}

/// Where a command says things.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    format: Format,
    quiet: bool,
    sheet: Sheet,
    live: bool,
}

impl Console {
    /// The process's own stdout and stderr. `plain` forbids colour and everything that moves; `quiet` keeps notes back.
    pub(crate) fn new(format: Format, plain: bool, quiet: bool) -> Self {
        if plain {
            console::set_colors_enabled(false);
            console::set_colors_enabled_stderr(false);
        }
        let terminal = console::Term::stdout();
        let width = terminal.is_term().then(|| terminal.size().1);
        let sheet = Sheet {
            wide: format == Format::Wide,
            colour: console::colors_enabled(),
            width,
        };
        // Live bars need a terminal that can move its cursor; NO_COLOR alone does not forbid them.
        let live = io::stderr().is_terminal() && !quiet && console::Term::stderr().features().is_attended();
        Self {
            format,
            quiet,
            sheet,
            live,
        }
    }

    /// Whether progress bars may be drawn on stderr.
    pub(crate) fn live(&self) -> bool {
        self.live
    }

    /// Whether data are printed for people and not for a program.
    pub(crate) fn for_people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Prints a list; `empty` is said on stderr where there is nothing to list.
    pub(crate) fn list<T: Row>(&self, rows: &[T], empty: &str) -> Result<(), Error> {
        if rows.is_empty() && self.for_people() {
            self.note(empty);
            return Ok(());
        }
        match self.format {
            Format::Table | Format::Wide => self.text(&table(rows, &self.sheet)),
            Format::Name => self.text(&rows.iter().map(|row| row.name() + "\n").collect::<String>()),
            Format::Json | Format::Yaml => self.value(rows),
        }
    }

    /// Prints one thing in full.
    pub(crate) fn detail<T: Detail>(&self, item: &T) -> Result<(), Error> {
        match self.format {
            Format::Table | Format::Wide => self.text(&item.describe(&self.sheet)),
            Format::Name => self.text(
                &item
                    .names()
                    .iter()
                    .map(|name| format!("{name}\n"))
                    .collect::<String>(),
            ),
            Format::Json | Format::Yaml => self.value(item),
        }
    }

    /// Prints text as it is.
    pub(crate) fn text(&self, text: &str) -> Result<(), Error> {
        let mut stdout = io::stdout().lock();
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .map_err(Error::Stdout)
    }

    /// Prints one line of a stream: as it is for people, as one JSON object (a line, or a YAML document) for programs.
    pub(crate) fn line<T: Serialize>(&self, item: &T, for_people: impl Display) -> Result<(), Error> {
        match self.format {
            Format::Json => self.text(&format!("{}\n", render::json_line(item))),
            Format::Yaml => self.text(&format!("---\n{}", yaml::write(item))),
            _ => self.text(&format!("{for_people}\n")),
        }
    }

    fn value<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Error> {
        match self.format {
            Format::Yaml => self.text(&yaml::write(value)),
            _ => self.text(&render::json(value)),
        }
    }

    /// Says something on stderr, unless told to be quiet.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.quiet {
            say(text);
        }
    }

    /// Asks a question on the terminal; anything but yes is no. `None` where nobody can answer.
    pub(crate) fn confirm(&self, question: &str) -> Option<bool> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        let mut stderr = io::stderr().lock();
        let mut answer = String::new();
        let asked = write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush());
        asked.and_then(|()| io::stdin().read_line(&mut answer)).ok()?;
        Some(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }
}

/// Reports an error: what, why, and what to do; `again` begins a command that asks the same coordinator.
pub(crate) fn report(error: &Error, again: &str) {
    say(format_args!(
        "{} {error}",
        style("error:").red().bold().for_stderr()
    ));
    let mut cause = std::error::Error::source(error);
    let mut last = error.to_string();
    while let Some(error) = cause {
        let text = error.to_string();
        if !last.contains(&text) {
            say(format_args!("  because: {}", text.replace('\n', "\n    ")));
        }
        last = text;
        cause = error.source();
    }
    if let Some(hint) = error.hint(again) {
        say(format_args!("{} {hint}", style("hint:").cyan().for_stderr()));
    }
}

/// A closed stderr is no reason to stop the work.
fn say(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
