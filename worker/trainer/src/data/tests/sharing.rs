//! The ledger of samples: whatever a gang's width, its ranks together see what a single one would.

use proptest::prelude::*;

use super::passes::{collect, seen};
use super::*;
use crate::data::{Batch, Share};

/// The data set as each rank of a gang sees it.
fn ranks(dataset: &Dataset, width: usize) -> Vec<Dataset> {
    let share = |rank| Share { rank, of: width };
    (0..width)
        .map(|rank| dataset.clone().for_rank(share(rank)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_epoch_uses_every_sample_of_the_kept_batches_once_in_the_same_steps(
        per_class in 3_usize..24, batch_size in 1_usize..20, width in 1_usize..=4, epoch in 0_u32..3,
    ) {
        let dataset = Case::new(2, per_class, 1).open(&plain(), 4).unwrap();
        let alone = collect(dataset.train_batches(epoch, batch_size));
        let ranks = ranks(&dataset, width);
        let smallest = alone.iter().map(|batch| batch.labels.len()).min().unwrap();
        prop_assert!(ranks.iter().all(|rank| rank.check_shares(batch_size, 1).is_ok() == (width <= smallest)
            && rank.check_shares(batch_size, 2).is_ok() == (2 * width <= smallest)));
        let parts: Vec<Vec<Batch>> = ranks
            .iter()
            .map(|rank| collect(rank.train_batches(epoch, batch_size)))
            .collect();
        prop_assert!(parts.iter().all(|steps| steps.len() == alone.len()));
        let mut ledger = vec![0; dataset.shared.ids.len()];
        for (step, whole) in alone.iter().enumerate() {
            let together: Vec<usize> = parts
                .iter()
                .flat_map(|steps| seen(&dataset, &steps[step..=step]))
                .collect();
            prop_assert_eq!(&together, &seen(&dataset, std::slice::from_ref(whole)));
            together.iter().for_each(|image| ledger[*image] += 1);
            let sizes: Vec<usize> = parts.iter().map(|steps| steps[step].labels.len()).collect();
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
            prop_assert!(parts.iter().all(|steps| steps[step].whole == whole.labels.len()));
        }
        // Nothing but training images, and of those all but the last partial batch.
        let train = dataset.len(Split::Train);
        let kept = if train < batch_size { train } else { train - train % batch_size };
        prop_assert_eq!(ledger.iter().sum::<usize>(), kept);
        prop_assert!(ledger.iter().all(|times| *times <= 1));
        prop_assert!(ledger.iter().enumerate().all(|(image, times)| *times == 0 || dataset.shared.train.contains(&image)));
    }

    #[test]
    fn whole_batches_are_dealt_out_without_loss_or_repetition(
        per_class in 3_usize..24, batch_size in 1_usize..20, width in 1_usize..=4, count in 0_usize..9,
    ) {
        let dataset = Case::new(2, per_class, 5).open(&plain(), 4).unwrap();
        let ranks = ranks(&dataset, width);
        for split in [Split::Train, Split::HeldOut, Split::Test] {
            let together: Vec<Batch> = ranks
                .iter()
                .flat_map(|rank| collect(rank.eval_batches(split, batch_size)))
                .collect();
            prop_assert!(together == collect(dataset.eval_batches(split, batch_size)));
        }
        let together: Vec<Batch> = ranks
            .iter()
            .flat_map(|rank| collect(rank.train_batches_dealt(count, batch_size)))
            .collect();
        let epochs = (0..).flat_map(|epoch| collect(dataset.train_batches(epoch, batch_size)));
        prop_assert!(together == epochs.take(count).collect::<Vec<_>>());
    }
}

#[test]
fn a_gang_wider_than_a_batch_is_told_what_to_do() {
    let dataset = Case::new(2, 3, 1).open(&plain(), 4).unwrap();
    let rank = dataset.for_rank(Share { rank: 0, of: 5 });
    let error = rank.check_shares(3, 1).unwrap_err();
    assert_eq!(error.class(), nettailor_domain::trainer::FailureClass::Input);
    assert!(error.to_string().contains("at most 3 workers"), "{error}");
}
