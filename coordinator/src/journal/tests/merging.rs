//! Which objects are merged, what that leaves, and what is found after it was cut off.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::journal::merge::{LARGEST, MERGE_EVERY, Run, Unmerged, run};

/// Writes objects of these sizes and merges them as the writer does, none of which makes anything smaller. Returns how many there
/// were at most, and how many bytes were written again.
fn simulate(sizes: &[u64]) -> (u64, u64) {
    let (mut objects, mut new, mut most, mut rewritten) = (Vec::new(), 0, 0, 0);
    for &size in sizes {
        objects.push(size);
        new += 1;
        while new >= MERGE_EVERY {
            let Some(run) = run(&objects) else {
                new = 0;
                break;
            };
            let merged: u64 = objects[run.clone()].iter().sum();
            assert!(run.len() > 1 && merged <= LARGEST, "{run:?} of {objects:?}");
            objects.splice(run, [merged]);
            rewritten += merged;
        }
        most = most.max(objects.len() as u64);
    }
    assert_eq!(objects.iter().sum::<u64>(), sizes.iter().sum::<u64>());
    (most, rewritten)
}

#[test]
fn objects_stay_few_and_each_byte_is_written_a_few_times() {
    let mut random = StdRng::seed_from_u64(7);
    let mut of = |least: u32, most: u32| -> Vec<u64> {
        let mut size = || 2_f64.powf(random.random_range(f64::from(least)..f64::from(most))) as u64;
        (0..10_000).map(|_| size()).collect()
    };
    // Somebody waits for each; anything between; as large as they become, and larger.
    for (sizes, times) in [(of(8, 12), 6), (of(8, 22), 2), (of(21, 22), 2), (of(8, 27), 1)] {
        let total: u64 = sizes.iter().sum();
        let (most_left, rewritten) = simulate(&sizes);
        // Of two that were not merged one is half of what there may be; beside those, each is larger than all that follow.
        let most = MERGE_EVERY as u64 + 2 * (total / (LARGEST / 2)) + 32;
        assert!(most_left <= most, "{most_left} objects of {total} bytes");
        assert!(rewritten <= times * total, "{rewritten} bytes for {total}");
    }
}

/// A row that some commit puts, or removes.
fn change(key: u8, value: Option<String>) -> Encoded {
    let row = backbone(BackboneName::Lite0, value.as_deref().unwrap_or_default());
    let change = match &value {
        Some(_) => Change::Put(row),
        None => Change::Remove(row.key()),
    };
    Encoded {
        // Rows of the test's own: there are few backbones.
        key: vec![b'b', key].into(),
        ..change.into()
    }
}

/// Commits that put and remove rows, in objects, and the rows that they leave.
fn history(random: &mut StdRng) -> (Vec<(JournalObject, Bytes)>, Rows) {
    let mut rows = Rows::new();
    let mut first = 1;
    let objects = (0..random.random_range(2..40)).map(|_| {
        let name = named(first, first + random.random_range(0..4));
        first = name.last + 1;
        let mut lines = Vec::new();
        for commit in name.first..=name.last {
            for _ in 0..random.random_range(0..4) {
                let value = random.random_bool(0.6).then(|| format!("{commit}"));
                let change = change(random.random_range(0..12), value);
                match &change.value {
                    Some(value) => rows.insert(change.key.to_vec(), value.to_vec()),
                    None => rows.remove(&change.key[..]),
                };
                lines.extend(object::lines(commit, &[change]));
            }
        }
        (name, object::seal(name, &lines))
    });
    (objects.collect(), rows)
}

fn rows_of<'a>(objects: impl IntoIterator<Item = &'a (JournalObject, Bytes)>) -> Rows {
    let mut rows = Rows::new();
    for (name, text) in objects {
        apply(*name, text, &mut rows).unwrap();
    }
    rows
}

/// Merges some objects that follow each other.
fn merge(objects: &mut Vec<(JournalObject, Bytes)>, random: &mut StdRng) {
    let first = random.random_range(0..objects.len() - 1);
    let next = random.random_range(first + 2..=objects.len());
    let (names, texts): (Vec<_>, Vec<_>) = objects[first..next].iter().cloned().unzip();
    let run = Run {
        objects: names,
        oldest: first == 0,
    };
    let merged = (run.name(), run.text(&texts).unwrap());
    objects.splice(first..next, [merged]);
}

#[test]
fn merging_changes_no_rows() {
    let mut random = StdRng::seed_from_u64(11);
    for _ in 0..300 {
        let (mut objects, rows) = history(&mut random);
        assert_eq!(rows_of(&objects), rows);
        while objects.len() > 1 {
            merge(&mut objects, &mut random);
            assert_eq!(rows_of(&objects), rows);
        }
        // What is left of everything is what is there, each row once.
        let (name, text) = &objects[0];
        let lines = object::open(*name, text)
            .unwrap()
            .split_inclusive(|byte| *byte == b'\n');
        assert_eq!(lines.count(), rows.len());
    }
}

#[test]
fn a_removal_stays_until_there_is_nothing_older() {
    let put = (named(1, 1), object::lines(1, &[change(0, Some("a".into()))]));
    let remove = (named(2, 2), object::lines(2, &[change(0, None)]));
    let other = (named(3, 3), object::lines(3, &[change(1, Some("b".into()))]));
    let objects = [put, remove, other].map(|(name, lines)| (name, object::seal(name, &lines)));
    let merged = |objects: &[(JournalObject, Bytes)], oldest| {
        let (objects, texts): (Vec<_>, Vec<_>) = objects.iter().cloned().unzip();
        let run = Run { objects, oldest };
        (run.name(), run.text(&texts).unwrap())
    };
    let newer = merged(&objects[1..], false);
    let both = [objects[0].clone(), newer];
    assert_eq!(rows_of(&both), rows_of(&objects));
    let (name, text) = merged(&both, true);
    assert_eq!(name, named(1, 3));
    let lines = object::lines(3, &[change(1, Some("b".into()))]);
    assert_eq!(text, object::seal(name, &lines));
}

#[test]
fn what_is_merged_must_be_whole() {
    let texts = [(1, "a"), (2, "b")].map(|(number, source)| {
        let lines = object::lines(number, &commit(number, source));
        object::seal(named(number, number), &lines)
    });
    let run = Run {
        objects: vec![named(1, 1), named(2, 2)],
        oldest: true,
    };
    run.text(&texts).unwrap();
    let [first, second] = &texts;
    let error = run
        .text(&[first.clone(), second.slice(..second.len() - 1)])
        .unwrap_err();
    let path = named(2, 2).path();
    assert!(
        matches!(&error, Error::Damaged { path: found, .. } if *found == path),
        "{error:?}"
    );
}

/// Which objects are there at any moment, a process that ends at any moment, and the next one that finds what is left.
#[test]
fn what_a_process_left_between_merging_and_removing_is_the_same_history() {
    let mut random = StdRng::seed_from_u64(13);
    for _ in 0..300 {
        let (mut objects, rows) = history(&mut random);
        // All that ever were, and are not removed yet.
        let mut left: BTreeMap<JournalObject, Bytes> = objects.iter().cloned().collect();
        for _ in 0..4 {
            if objects.len() > 1 {
                merge(&mut objects, &mut random);
            }
            let counts: Vec<_> = objects.iter().map(|(name, _)| *name).collect();
            left.retain(|name, _| counts.contains(name) || random.random_bool(0.7));
            left.extend(objects.iter().cloned());
            let mut listed: Vec<_> = left.keys().copied().collect();
            listed.reverse();
            let found = History::find(OURS, &listed).unwrap();
            assert_eq!(found.objects(), counts);
            assert_eq!(found.stale().len(), left.len() - counts.len());
            let read = found
                .objects()
                .into_iter()
                .map(|name| (name, left[&name].clone()));
            assert_eq!(rows_of(&read.collect::<Vec<_>>()), rows);
        }
    }
}

#[test]
fn objects_that_overlap_are_refused() {
    for listed in [
        [named(1, 5), named(5, 9), named(10, 10)],
        [named(1, 5), named(6, 9), named(8, 10)],
        [named(0, 5), named(1, 9), named(10, 10)],
        [named(1, 5), named(6, 9), named(4, 7)],
    ] {
        let error = History::find(OURS, &listed).unwrap_err();
        assert!(matches!(error, Error::Gap { .. }), "{error:?}");
    }
}

/// Commits somebody waits for: an object each.
async fn write(bench: &Bench, journal: &Journal, numbers: std::ops::RangeInclusive<u64>) {
    let mut written = journal.written.clone();
    for number in numbers {
        journal.append(number, &commit(number, "a"), true);
        written.wait_for(|written| *written == number).await.unwrap();
    }
    assert!(!bench.store.list_journals().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_writer_merges_what_there_is_and_goes_on() {
    let bench = Bench::new();
    let (writer, journal) = bench.writer().await;
    let writing = tokio::spawn(writer.run(bench.stop.clone()));
    let last = 3 * MERGE_EVERY as u64;
    write(&bench, &journal, 1..=last).await;
    bench.stop.cancel();
    writing.await.unwrap();
    let listed = bench.store.list_journals().await.unwrap();
    // At least the first that are looked at are one, however late that is.
    assert!(listed.len() <= 2 * MERGE_EVERY + 1, "{listed:?}");
    let history = History::find(OURS, &listed).unwrap();
    assert_eq!(history.stale(), []);
    assert_eq!((history.objects()[0].first, history.last()), (1, last));
    let rows = decode(history.rows(&bench.store).await.unwrap()).unwrap();
    assert_eq!(rows, [backbone(BackboneName::Lite0, "a"), Row::Journalled(last)]);
}

#[tokio::test]
async fn objects_that_cannot_be_merged_stay() {
    let bench = Bench::new();
    let (writer, journal) = bench.writer().await;
    let writing = tokio::spawn(writer.run(bench.stop.clone()));
    write(&bench, &journal, 1..=3).await;
    std::fs::write(bench.folder.path().join(named(2, 2).path()), "damaged").unwrap();
    let last = 2 * MERGE_EVERY as u64;
    write(&bench, &journal, 4..=last).await;
    bench.stop.cancel();
    writing.await.unwrap();
    let history = History::find(OURS, &bench.store.list_journals().await.unwrap()).unwrap();
    assert_eq!((history.objects().len() as u64, history.last()), (last, last));
    let error = history.check(&bench.store).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn what_was_not_made_is_told_from_what_may_have_been_written() {
    let bench = Bench::new();
    let merge = || {
        let run = Run {
            objects: vec![named(1, 1), named(2, 2)],
            oldest: true,
        };
        run.merge(bench.store.clone())
    };
    let missing = merge().await.unwrap_err();
    assert!(
        matches!(missing, Unmerged::Unmade(Error::Store(_))),
        "{missing:?}"
    );
    for number in [1, 2] {
        let lines = object::lines(number, &commit(number, "a"));
        let name = named(number, number);
        let text = object::seal(name, &lines);
        bench.store.write_journal(name, text).await.unwrap();
    }
    // No file can take its place.
    let path = bench.folder.path().join(named(1, 2).path());
    std::fs::create_dir_all(path.join("folder")).unwrap();
    let unwritten = merge().await.unwrap_err();
    assert!(matches!(unwritten, Unmerged::Unwritten(_)), "{unwritten:?}");
    std::fs::remove_dir_all(&path).unwrap();
    assert_eq!(merge().await.unwrap(), std::fs::metadata(&path).unwrap().len());
}
