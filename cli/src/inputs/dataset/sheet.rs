//! A contact sheet: a row for each class, its name and some of its images.

use std::collections::HashMap;

use nettailor_images::{Canvas, GLYPH};

use super::Image;

/// Side of an image on the sheet, in pixels.
pub(super) const SIDE: u32 = 64;
/// Images of a class.
const COLUMNS: usize = 10;
/// Classes on a sheet: more would make a picture that few programs open.
const ROWS: usize = 100;
/// White between images.
const GAP: u32 = 4;
/// Characters of a class's name.
const NAME: usize = 24;

/// A sheet, and which image belongs where on it.
#[derive(Debug)]
pub(crate) struct Sheet {
    canvas: Canvas,
    /// Row and column of an image, by its number.
    places: HashMap<usize, (u32, u32)>,
    /// Where images begin, from the left.
    left: u32,
    /// Classes that found no room.
    pub(crate) left_out: usize,
}

impl Sheet {
    /// An empty sheet for some images of each class, spread evenly over those that there are.
    pub(super) fn plan(classes: &[String], images: &[Image]) -> Self {
        let mut members = vec![vec![]; classes.len()];
        for (number, image) in images.iter().enumerate() {
            members[image.label].push(number);
        }
        members.truncate(ROWS);
        let mut places = HashMap::new();
        for (row, members) in (0..).zip(&members) {
            let shown = members.len().min(COLUMNS);
            for (column, place) in (0..shown).zip(0..) {
                places.insert(members[column * members.len() / shown], (row, place));
            }
        }
        let names: Vec<String> = classes[..members.len()]
            .iter()
            .map(|class| shortened(class))
            .collect();
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        // At most NAME characters.
        let left = GAP + GLYPH.0 * longest as u32 + GAP;
        let cell = SIDE + GAP;
        let mut canvas = Canvas::new(left + COLUMNS as u32 * cell, GAP + members.len() as u32 * cell);
        for (row, name) in (0..).zip(&names) {
            canvas.text(GAP, GAP + row * cell + (SIDE - GLYPH.1) / 2, name);
        }
        Self {
            canvas,
            places,
            left,
            left_out: classes.len() - members.len(),
        }
    }

    /// Whether the image of this number is on the sheet.
    pub(super) fn wants(&self, number: usize) -> bool {
        self.places.contains_key(&number)
    }

    /// Draws the image of this number: a square of [`SIDE`] pixels.
    pub(super) fn draw(&mut self, number: usize, square: &[u8]) {
        if let Some((row, column)) = self.places.get(&number) {
            let at = |place: &u32| place * (SIDE + GAP);
            self.canvas
                .square(self.left + at(column), GAP + at(row), square, SIDE);
        }
    }

    /// The sheet as a PNG file.
    pub(crate) fn png(&self) -> Result<Vec<u8>, String> {
        self.canvas.png()
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 2).chain("..".chars()).collect()
}
