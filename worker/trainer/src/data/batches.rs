//! The order of an epoch, who takes what of it, and batches prepared ahead of time.

use std::ops::Range;
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

/// Which of how many parts is ours: one rank's of a gang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// From 0.
    pub rank: usize,
    /// Parts in all; at least 1.
    pub of: usize,
}

impl Share {
    /// Everything.
    pub const WHOLE: Self = Self { rank: 0, of: 1 };

    /// Our part of `count` things in a row: the parts of all ranks follow each other, and their sizes differ by one at most.
    pub fn part(self, count: usize) -> Range<usize> {
        self.rank * count / self.of..(self.rank + 1) * count / self.of
    }
}

/// What one batch is made of.
struct Plan {
    /// Images, by index.
    members: Vec<usize>,
    /// Images of the batch that all ranks share, of which these are a part.
    whole: usize,
    /// For which they are augmented; without one they stay as they are.
    epoch: Option<u32>,
}

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
    /// Our part of every batch of an epoch but the `first` ones.
    pub(super) fn train(
        shared: Arc<Shared>,
        share: Share,
        epoch: u32,
        batch_size: usize,
        first: usize,
    ) -> Self {
        let ours = |batch: Vec<usize>| Plan {
            members: batch[share.part(batch.len())].to_vec(),
            whole: batch.len(),
            epoch: Some(epoch),
        };
        let batches = epoch_batches(&shared, epoch, batch_size).into_iter();
        let plans = batches.skip(first).map(ours).collect();
        Self::start(shared, plans)
    }

    /// Our part of the first `count` training batches, over as many epochs as they take: whole batches.
    pub(super) fn train_dealt(shared: Arc<Shared>, share: Share, count: usize, batch_size: usize) -> Self {
        let epochs = (0..).map(|epoch| (epoch, epoch_batches(&shared, epoch, batch_size)));
        let batches =
            epochs.flat_map(|(epoch, batches)| batches.into_iter().map(move |batch| (epoch, batch)));
        let ours = share.part(count);
        let plan = |(epoch, members): (u32, Vec<usize>)| Plan {
            whole: members.len(),
            members,
            epoch: Some(epoch),
        };
        let plans = batches.skip(ours.start).take(ours.len()).map(plan).collect();
        Self::start(shared, plans)
    }

    /// Our part of a split's batches: whole batches, so that each is computed as it would be alone.
    pub(super) fn eval(shared: Arc<Shared>, share: Share, split: Split, batch_size: usize) -> Self {
        let batches: Vec<&[usize]> = shared.members(split).chunks(batch_size).collect();
        let ours = batches[share.part(batches.len())].iter();
        let plan = |members: &&[usize]| Plan {
            members: members.to_vec(),
            whole: members.len(),
            epoch: None,
        };
        let plans = ours.map(plan).collect();
        Self::start(shared, plans)
    }

    fn start(shared: Arc<Shared>, plans: Vec<Plan>) -> Self {
        let left = plans.len();
        let (sender, ready) = sync_channel(READY);
        let work = move || {
            for plan in plans {
                let made = Batch {
                    whole: plan.whole,
                    ..batch(&shared, &plan.members, plan.epoch)
                };
                // Nobody wants the rest once the receiver is gone.
                if sender.send(made).is_err() {
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

/// The batches of an epoch: the last partial one is dropped if there is a full one.
fn epoch_batches(shared: &Shared, epoch: u32, batch_size: usize) -> Vec<Vec<usize>> {
    let order = order(shared, epoch);
    let full = order.len() / batch_size;
    let kept = if full > 0 { full * batch_size } else { order.len() };
    order[..kept].chunks(batch_size).map(<[usize]>::to_vec).collect()
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
        images: members.to_vec(),
        size: shared.size,
        whole: members.len(),
    }
}
