//! Tables, field lists and JSON as text.

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table};
use serde::Serialize;

/// What text is laid out for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sheet {
    /// Show every column.
    pub(crate) wide: bool,
    /// Colour is welcome.
    pub(crate) colour: bool,
    /// Columns of the terminal; unbounded where there is none.
    pub(crate) width: Option<u16>,
}

/// One column of a table over `T`.
pub(crate) struct Column<T> {
    heading: &'static str,
    cell: fn(&T) -> String,
    colour: Option<fn(&T) -> Option<Color>>,
    right: bool,
    wide: bool,
}

impl<T> Column<T> {
    /// A column of text, left-aligned, always shown.
    pub(crate) const fn new(heading: &'static str, cell: fn(&T) -> String) -> Self {
        Self {
            heading,
            cell,
            colour: None,
            right: false,
            wide: false,
        }
    }

    /// A column of numbers, right-aligned.
    pub(crate) const fn number(heading: &'static str, cell: fn(&T) -> String) -> Self {
        Self {
            heading,
            cell,
            colour: None,
            right: true,
            wide: false,
        }
    }

    /// Shown in wide tables only.
    pub(crate) const fn wide(mut self) -> Self {
        self.wide = true;
        self
    }

    /// Coloured by the row.
    pub(crate) const fn colour(mut self, colour: fn(&T) -> Option<Color>) -> Self {
        self.colour = Some(colour);
        self
    }
}

/// Something that is listed. Its `Serialize` is its JSON, whose keys are stable.
pub(crate) trait Row: Serialize + Sized + 'static {
    /// Its columns, in order.
    const COLUMNS: &'static [Column<Self>];
    /// What `-o name` prints, and what other commands take.
    fn name(&self) -> String;
}

/// Something that can be shown on its own, in full.
pub(crate) trait Detail: Serialize {
    /// The text for people.
    fn describe(&self, sheet: &Sheet) -> String;
    /// What `-o name` prints, one a line.
    fn names(&self) -> Vec<String>;
}

/// A table with headings, without lines; each row ends in a newline.
pub(crate) fn table<T: Row>(rows: &[T], sheet: &Sheet) -> String {
    let columns: Vec<&Column<T>> = T::COLUMNS
        .iter()
        .filter(|column| sheet.wide || !column.wide)
        .collect();
    let mut table = Table::new();
    table.load_preset(NOTHING);
    match sheet.width {
        Some(width) => table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width),
        None => table.set_content_arrangement(ContentArrangement::Disabled),
    };
    if sheet.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    let heading = |column: &&Column<T>| Cell::new(column.heading).add_attribute(Attribute::Bold);
    table.set_header(columns.iter().map(heading));
    for row in rows {
        table.add_row(columns.iter().map(|column| {
            let cell = Cell::new(first_line(&(column.cell)(row)));
            match column.colour.and_then(|colour| colour(row)) {
                Some(colour) => cell.fg(colour),
                None => cell,
            }
        }));
    }
    for (index, column) in columns.iter().enumerate() {
        if let Some(laid_out) = table.column_mut(index) {
            laid_out.set_padding((0, 2));
            if column.right {
                laid_out.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

/// The first line of a text that may have more, where there is room for one only.
pub(crate) fn first_line(text: &str) -> String {
    match text.split_once('\n') {
        Some((first, _)) => format!("{} ...", first.trim_end()),
        None => text.to_owned(),
    }
}

/// Names and values under each other. A value's further lines stand below its first; a pair without a value is left out.
pub(crate) fn fields(pairs: &[(&str, String)]) -> String {
    let pairs = pairs.iter().filter(|(_, value)| !value.is_empty());
    let width = pairs.clone().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        let value = value.replace('\n', &format!("\n{:width$}", "", width = width + 3));
        format!("{:<width$}  {value}\n", format!("{name}:"), width = width + 1)
    };
    pairs.map(line).collect()
}

/// Indented JSON with a newline at the end.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> String {
    let text = serde_json::to_string_pretty(value).expect("views have text keys and no failing serialisers");
    text + "\n"
}

/// JSON on one line.
pub(crate) fn json_line<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("views have text keys and no failing serialisers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Fruit {
        name: &'static str,
        grams: u32,
    }

    impl Row for Fruit {
        const COLUMNS: &'static [Column<Self>] = &[
            Column::new("NAME", |fruit| fruit.name.to_owned()),
            Column::number("GRAMS", |fruit: &Self| fruit.grams.to_string()).colour(|_| Some(Color::Red)),
            Column::new("LETTERS", |fruit: &Self| fruit.name.len().to_string()).wide(),
        ];
        fn name(&self) -> String {
            self.name.to_owned()
        }
    }

    const FRUIT: [Fruit; 2] = [
        Fruit {
            name: "apple",
            grams: 150,
        },
        Fruit {
            name: "fig",
            grams: 50,
        },
    ];

    #[test]
    fn tables_are_columns_without_lines() {
        assert_eq!(
            table(&FRUIT, &Sheet::default()),
            "NAME   GRAMS\napple    150\nfig       50\n"
        );
        let wide = Sheet {
            wide: true,
            ..Sheet::default()
        };
        assert_eq!(
            table(&FRUIT[..1], &wide),
            "NAME   GRAMS  LETTERS\napple    150  5\n"
        );
    }

    #[test]
    fn colour_only_where_it_is_welcome() {
        assert!(!table(&FRUIT, &Sheet::default()).contains('\x1b'));
        assert!(
            table(
                &FRUIT,
                &Sheet {
                    colour: true,
                    ..Sheet::default()
                }
            )
            .contains('\x1b')
        );
    }

    #[test]
    fn fields_are_aligned() {
        assert_eq!(
            fields(&[
                ("id", "7".into()),
                ("why", String::new()),
                ("state", "failed: it said\nno".into())
            ]),
            "id:     7\nstate:  failed: it said\n        no\n"
        );
    }

    #[test]
    fn a_row_is_a_line() {
        let row = [Fruit {
            name: "fig\nripe",
            grams: 50,
        }];
        assert_eq!(table(&row, &Sheet::default()), "NAME     GRAMS\nfig ...     50\n");
    }
}
