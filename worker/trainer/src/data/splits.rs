//! Which images train, which are held out, which test.

use nettailor_domain::archive::Folder;
use nettailor_domain::task::DataSettings;

use super::packed::Index;
use super::random::{self, Purpose};
use super::{Error, Split};

/// Indices of the training, held-out and test images, each ascending.
///
/// A test folder is the test split, whatever the seed; without one, `reading.test` of every class is. A val folder is
/// held out, or, of what remains, `reading.held_out` of every class. Within a class, the images with the least random numbers are taken,
/// so that membership follows from the seed and the names. A class gives its last images to training first,
/// then to the held-out split.
///
/// # Errors
/// A class without training images, or a split without any.
pub(super) fn split(
    index: &Index,
    labels: &[usize],
    classes: &[String],
    reading: &DataSettings,
    seed: u64,
) -> Result<[Vec<usize>; 3], Error> {
    let samples = &index.samples;
    let mut by_class: Vec<Vec<usize>> = vec![vec![]; classes.len()];
    let (mut train, mut held_out, mut test) = (Vec::new(), Vec::new(), Vec::new());
    for (index, (sample, &label)) in samples.iter().zip(labels).enumerate() {
        match sample.folder {
            Folder::Train | Folder::Class => by_class[label].push(index),
            Folder::Val => held_out.push(index),
            Folder::Test => test.push(index),
        }
    }
    for (mut members, class) in by_class.into_iter().zip(classes) {
        if members.is_empty() {
            return Err(Error::EmptyClass { class: class.clone() });
        }
        let mut draw = |purpose, share, kept| {
            let number = |index: usize| random::number(purpose, seed, 0, random::id(&samples[index].name));
            draw(&mut members, share, kept, number)
        };
        if !index.test_folder {
            let kept = if index.val_folder { 1 } else { 2 };
            test.extend(draw(Purpose::TestSplit, reading.test, kept));
        }
        if !index.val_folder {
            held_out.extend(draw(Purpose::HeldOutSplit, reading.held_out, 1));
        }
        train.extend(members);
    }
    for (split, members) in [
        (Split::HeldOut, &mut held_out),
        (Split::Test, &mut test),
        (Split::Train, &mut train),
    ] {
        if members.is_empty() {
            return Err(Error::EmptySplit { split });
        }
        members.sort_unstable();
    }
    Ok([train, held_out, test])
}

/// Takes `share` of `members` out: rounded, one at least, but so that `kept` remain. The least numbers go first.
fn draw(members: &mut Vec<usize>, share: f64, kept: usize, number: impl Fn(usize) -> u64) -> Vec<usize> {
    let wanted = (members.len() as f64 * share).round() as usize;
    let count = wanted.max(1).min(members.len().saturating_sub(kept));
    members.sort_by_cached_key(|&index| (number(index), index));
    members.drain(..count).collect()
}
