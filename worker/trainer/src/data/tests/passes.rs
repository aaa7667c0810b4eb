use std::collections::HashMap;
use std::sync::Arc;

use super::*;
use crate::data::batches::batch;
use crate::data::{Batch, Batches, Shared};

fn augmented() -> DataSettings {
    let augment = serde_json::json!({
        "crop_padding": 3, "resized_crop": [0.3, 1.0], "horizontal_flip": true, "color_jitter": 0.4
    });
    reading(serde_json::json!({ "augment": augment }))
}

pub(super) fn collect(batches: Batches) -> Vec<Batch> {
    batches.map(Result::unwrap).collect()
}

/// Which image each one of the batches is, by its pixels; all images of the test data differ.
pub(super) fn seen(dataset: &Dataset, batches: &[Batch]) -> Vec<usize> {
    let shared = &dataset.shared;
    let known: HashMap<&[u8], usize> = (0..shared.ids.len())
        .map(|index| (shared.packed.image(index), index))
        .collect();
    assert_eq!(known.len(), shared.ids.len());
    let images = batches
        .iter()
        .flat_map(|batch| batch.pixels.chunks_exact(3 * batch.size * batch.size));
    let seen: Vec<usize> = images.map(|image| known[image]).collect();
    let told: Vec<usize> = batches.iter().flat_map(|batch| batch.images.clone()).collect();
    assert_eq!(told, seen, "a batch names the images it holds");
    let labels: Vec<i64> = batches.iter().flat_map(|batch| batch.labels.clone()).collect();
    assert_eq!(
        labels,
        seen.iter().map(|&index| shared.labels[index]).collect::<Vec<_>>()
    );
    seen
}

#[test]
fn an_epoch_holds_every_training_image_once() {
    let dataset = Case::new(3, 25, 2).open(&plain(), 4).unwrap();
    assert_eq!(dataset.len(Split::Train), 60);
    let epochs = [0, 1, 0].map(|epoch| seen(&dataset, &collect(dataset.train_batches(epoch, 12))));
    for epoch in &epochs {
        let mut sorted = epoch.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, dataset.shared.train);
    }
    assert_eq!(epochs[0], epochs[2]);
    assert_ne!(epochs[0], epochs[1]);
    assert_ne!(epochs[0], dataset.shared.train);
}

#[test]
fn the_last_partial_batch_is_dropped_only_after_a_full_one() {
    let dataset = Case::new(2, 25, 2).open(&plain(), 4).unwrap();
    for (batch_size, expected) in [
        (8, vec![8; 5]),
        (15, vec![15, 15]),
        (40, vec![40]),
        (64, vec![40]),
    ] {
        let sizes: Vec<usize> = collect(dataset.train_batches(0, batch_size))
            .iter()
            .map(|b| b.labels.len())
            .collect();
        assert_eq!(sizes, expected);
        assert_eq!(dataset.train_steps(batch_size), expected.len());
    }
}

#[test]
fn evaluation_keeps_order_and_partial_batches() {
    let dataset = Case::new(2, 25, 7).open(&plain(), 4).unwrap();
    for split in [Split::Train, Split::HeldOut, Split::Test] {
        let batches = collect(dataset.eval_batches(split, 9));
        assert_eq!(seen(&dataset, &batches), dataset.shared.members(split));
        assert!(batches.iter().all(|batch| batch.size == 16));
    }
}

#[test]
fn augmentation_follows_from_seed_epoch_and_sample() {
    let case = Case::new(2, 20, 2);
    let dataset = case.open(&augmented(), 4).unwrap();
    let first = collect(dataset.train_batches(3, 8));
    assert_eq!(
        first,
        collect(case.open(&augmented(), 4).unwrap().train_batches(3, 8))
    );
    assert!(
        first
            .iter()
            .all(|batch| batch.pixels.len() == batch.labels.len() * 16 * 16 * 3)
    );
    let images = |batches: &[Batch]| -> HashSet<Vec<u8>> {
        batches
            .iter()
            .flat_map(|batch| batch.pixels.chunks_exact(768).map(<[u8]>::to_vec))
            .collect()
    };
    // Other pixels in another epoch, not the same ones in another order; the same ones whatever the batch size.
    assert_eq!(
        images(&first)
            .intersection(&images(&collect(dataset.train_batches(4, 8))))
            .count(),
        0
    );
    assert_eq!(images(&first), images(&collect(dataset.train_batches(3, 4))));
}

#[test]
fn batches_are_the_same_for_any_number_of_threads() {
    let dataset = Case::new(2, 20, 2).open(&augmented(), 4).unwrap();
    let [one, four] = [1, 4].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| batch(&dataset.shared, &dataset.shared.train, Some(7)))
    });
    assert!(one == four);
}

#[test]
fn images_kept_larger_for_cropping_are_evaluated_at_the_input_size() {
    let case = Case::new(2, 20, 2);
    let (kept, exact) = (
        case.open(&augmented(), 0).unwrap(),
        case.open(&plain(), 0).unwrap(),
    );
    assert_eq!(kept.shared.packed.side(), 20);
    let [kept, exact] = [kept, exact].map(|dataset| collect(dataset.eval_batches(Split::Test, 4)).remove(0));
    assert_eq!((kept.size, kept.pixels.len()), (16, exact.pixels.len()));
    let difference: u64 = kept
        .pixels
        .iter()
        .zip(&exact.pixels)
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    assert!(
        difference < 8 * kept.pixels.len() as u64,
        "mean difference {difference} / {}",
        kept.pixels.len()
    );
}

#[test]
fn dropping_a_pass_ends_its_thread() {
    let dataset = Case::new(2, 40, 2).open(&plain(), 4).unwrap();
    let mut batches = dataset.train_batches(0, 2);
    assert!(batches.next().unwrap().is_ok());
    assert_eq!(Arc::strong_count(&dataset.shared), 2);
    drop(batches);
    assert_eq!(Arc::strong_count(&dataset.shared), 1);
}

#[test]
fn a_failed_thread_is_an_error_and_not_a_short_epoch() {
    let dataset = Case::new(2, 20, 2).open(&plain(), 4).unwrap();
    let Dataset { shared, share } = dataset;
    let shared = Arc::into_inner(shared).unwrap();
    // Image 9999 does not exist.
    let broken = Dataset {
        shared: Arc::new(Shared {
            held_out: vec![0, 1, 9999, 2],
            ..shared
        }),
        share,
    };
    let told: Vec<bool> = broken
        .eval_batches(Split::HeldOut, 1)
        .map(|batch| batch.is_ok())
        .collect();
    assert_eq!(told, [true, true, false]);
}
