//! The order of an epoch, and batches prepared ahead of time.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

use nettailor_images::{Rectangle, resize_part};
use rayon::prelude::*;

use super::augment::augment;
use super::random::{self, Purpose};
use super::{Batch, Error, Shared, Split};

/// Batches that wait ready: one hides the time of preparing the next, a second evens out slow ones. More would only
/// hold memory (a batch of 64 images at 224 px is 9.6 MB).
const READY: usize = 2;

/// Batches of one pass over a split, in order.
///
/// A thread prepares them. Dropping the iterator stops it and waits for it: as long as one batch takes at most.
/// Yields one error, and then nothing, if the thread fails.
#[derive(Debug)]
pub struct Batches {
    /// Batches still to come.
    left: usize,
    /// Closed to tell the thread that no more is wanted.
    ready: Option<Receiver<Batch>>,
    thread: Option<JoinHandle<()>>,
    /// Why there is no thread, until it has been told.
    failed: Option<std::io::Error>,
}

impl Batches {
    pub(super) fn train(shared: Arc<Shared>, epoch: u32, batch_size: usize, first: usize) -> Self {
        let order = order(&shared, epoch);
        let full = order.len() / batch_size;
        let kept = if full > 0 { full * batch_size } else { order.len() };
        let batches = order[..kept].chunks(batch_size).skip(first);
        let plan = batches.map(<[usize]>::to_vec).collect();
        Self::start(shared, plan, Some(epoch))
    }

    pub(super) fn eval(shared: Arc<Shared>, split: Split, batch_size: usize) -> Self {
        let plan = shared
            .members(split)
            .chunks(batch_size)
            .map(<[usize]>::to_vec)
            .collect();
        Self::start(shared, plan, None)
    }

    fn start(shared: Arc<Shared>, plan: Vec<Vec<usize>>, epoch: Option<u32>) -> Self {
        let left = plan.len();
        let (sender, ready) = sync_channel(READY);
        let work = move || {
            for members in plan {
                // Nobody wants the rest once the receiver is gone.
                if sender.send(batch(&shared, &members, epoch)).is_err() {
                    return;
                }
            }
        };
        match Builder::new().name("batches".to_owned()).spawn(work) {
            Ok(thread) => Self {
                left,
                ready: Some(ready),
                thread: Some(thread),
                failed: None,
            },
            Err(error) => Self {
                left,
                ready: None,
                thread: None,
                failed: Some(error),
            },
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            return Some(Err(Error::Thread(error)));
        }
        let received = self.ready.as_ref().filter(|_| self.left > 0)?.recv();
        self.left = if received.is_ok() { self.left - 1 } else { 0 };
        Some(received.map_err(|_| Error::Stopped))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.ready = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed, and told as `Stopped` to whoever still asked.
            thread.join().ok();
        }
    }
}

/// The training images in the order of an epoch.
fn order(shared: &Shared, epoch: u32) -> Vec<usize> {
    let mut order = shared.train.clone();
    order.sort_by_cached_key(|&index| {
        let id = shared.ids[index];
        (random::number(Purpose::Order, shared.seed, epoch, id), index)
    });
    order
}

/// One batch; augmented for `epoch`, or as it is. Images are independent of each other, so threads change nothing.
pub(super) fn batch(shared: &Shared, members: &[usize], epoch: Option<u32>) -> Batch {
    let (size, from) = (shared.size as u32, shared.packed.side());
    let image_bytes = 3 * shared.size * shared.size;
    let mut pixels = vec![0; members.len() * image_bytes];
    pixels
        .par_chunks_exact_mut(image_bytes)
        .zip(members)
        .for_each(|(out, &index)| {
            let stored = shared.packed.image(index);
            match epoch {
                Some(epoch) => {
                    let mut draw =
                        random::generator(Purpose::Augmentation, shared.seed, epoch, shared.ids[index]);
                    augment(stored, from, out, size, &shared.augment, &mut draw);
                }
                None if from == size => out.copy_from_slice(stored),
                None => {
                    let side = f64::from(from);
                    let whole = Rectangle {
                        left: 0.0,
                        top: 0.0,
                        width: side,
                        height: side,
                    };
                    resize_part(stored, from, whole, out, size);
                }
            }
        });
    Batch {
        pixels,
        labels: members.iter().map(|&index| shared.labels[index]).collect(),
        size: shared.size,
    }
}
