//! The test split is read by `select` and by nothing before it.

use std::collections::HashSet;
use std::path::Path;

use nettailor_domain::architecture::Selection;
use nettailor_domain::stage::{StageOutcome, StageWork};
use nettailor_domain::trainer::ParentInput;
use nettailor_domain::units::Accuracy;
use nettailor_trainer::data::{Dataset, Split};
use nettailor_trainer::model::Init;
use nettailor_trainer::weights;

use crate::{Bench, CLASSES, SIDE, candidate, student, training};

/// An image of the archive: its place in it and its pixels (red, green, blue), as large as the network's
/// input, so that they reach the network as they are.
struct Image {
    name: String,
    pixels: Vec<u8>,
}

/// 16 images per class, of the class's colour and some noise; with `folders`, 4 of them in the test folder.
fn images(folders: bool) -> Vec<Image> {
    let mut images = Vec::new();
    for (label, class) in CLASSES.iter().enumerate() {
        for number in 0..16 {
            let folder = match (folders, number < 12) {
                (false, _) => "",
                (true, true) => "train/",
                (true, false) => "test/",
            };
            let name = format!("{folder}{class}/{number:02}.ppm");
            let noise = Init::Normal(20.0).values(label as u64, &name, (SIDE * SIDE * 3) as usize);
            let pixel = |(i, z): (usize, &f32)| (if i % 3 == 2 - label { 170.0 } else { 80.0 } + z) as u8;
            let pixels = noise.iter().enumerate().map(pixel).collect();
            images.push(Image { name, pixels });
        }
    }
    images
}

fn write(path: &Path, images: &[Image]) {
    let mut archive = tar::Builder::new(std::fs::File::create(path).unwrap());
    for image in images {
        let mut content = format!("P6 {SIDE} {SIDE} 255\n").into_bytes();
        content.extend(&image.pixels);
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive
            .append_data(&mut header, &image.name, content.as_slice())
            .unwrap();
    }
    archive.finish().unwrap();
}

/// Pixels of a split's images.
fn pixels(bench: &Bench, split: Split) -> HashSet<Vec<u8>> {
    let work = StageWork::Teacher {
        training: training(1, 0.01),
    };
    let assignment = bench.assignment("look", work, vec![]);
    let spec = &assignment.spec;
    let dataset = Dataset::open(
        &assignment.data,
        spec.data,
        &spec.reading,
        &spec.classes,
        spec.seed,
        &assignment.cache_dir,
        &mut |_| (),
    )
    .unwrap();
    let images = dataset.eval_batches(split, 1).map(|batch| batch.unwrap().pixels);
    images.collect()
}

/// Everything before `select`, then the accuracies on the test split: the teacher's and the network's.
fn run(bench: &Bench) -> (Vec<ParentInput>, [Accuracy; 2]) {
    let work = StageWork::Teacher {
        training: training(8, 0.01),
    };
    let (_, teacher) = bench.finish(&bench.assignment("teacher", work, vec![]));
    let work = StageWork::Student {
        max_skip: 2,
        student: student(),
    };
    let (_, trained) = bench.finish(&bench.assignment("student", work, vec![teacher.clone()]));
    let parents = vec![teacher.clone(), trained.clone()];
    let (_, pruned) = bench.finish(&bench.assignment("candidate", candidate(1, 0.001), parents));

    let work = StageWork::Select { tolerance: 0.005 };
    let mut select = bench.assignment("select", work, vec![teacher.clone(), pruned.clone()]);
    select.selection = Some(Selection {
        k: 1,
        threshold: 0.5,
        qualified: true,
    });
    let (finished, _) = bench.finish(&select);
    let StageOutcome::Select {
        teacher_test, test, ..
    } = finished.outcome
    else {
        panic!("{:?}", finished.outcome)
    };
    (vec![teacher, trained, pruned], [teacher_test, test])
}

/// Two archives that differ in nothing but the pixels of their test images.
fn garbled_test_images_change_nothing_but_the_measurement(folders: bool) {
    let (bench, garbled) = (Bench::new(), Bench::new());
    let mut images = images(folders);
    write(&bench.archive, &images);
    let test = pixels(&bench, Split::Test);
    let seen: HashSet<_> = [Split::Train, Split::HeldOut]
        .map(|split| pixels(&bench, split))
        .into_iter()
        .flatten()
        .collect();
    assert!(test.is_disjoint(&seen), "no image is in two splits");

    // Each test image becomes one of the next class's colour: whoever looks at it sees something else.
    let mut changed = HashSet::new();
    for image in images.iter_mut().filter(|image| test.contains(&image.pixels)) {
        for pixel in image.pixels.chunks_exact_mut(3) {
            pixel.rotate_left(1);
        }
        changed.insert(image.pixels.clone());
    }
    assert_eq!(changed.len(), test.len());
    write(&garbled.archive, &images);
    assert_ne!(
        weights::digest(&bench.archive).unwrap(),
        weights::digest(&garbled.archive).unwrap()
    );
    assert_eq!(
        pixels(&garbled, Split::Test),
        changed,
        "the same images are in the split"
    );

    let (clean, [clean_teacher, clean_network]) = run(&bench);
    let (other, [garbled_teacher, garbled_network]) = run(&garbled);
    for ((clean, other), stage) in clean.iter().zip(&other).zip(["teacher", "student", "candidate"]) {
        assert_eq!(clean.result.outcome, other.result.outcome, "{stage}");
        let [clean, other] = [clean, other].map(|parent| weights::digest(&parent.weights).unwrap());
        assert_eq!(clean, other, "{stage}: weights");
    }
    assert_eq!(clean_teacher.total, garbled_teacher.total);
    // The candidate has hardly learnt; what the teacher knows shows that the measurement is of the test split.
    assert!(
        clean_teacher.correct > garbled_teacher.correct,
        "{clean_teacher} and {garbled_teacher}"
    );
    assert_eq!(clean_network.total, garbled_network.total);
}

#[test]
fn garbled_images_of_a_test_folder_change_nothing_but_the_measurement() {
    garbled_test_images_change_nothing_but_the_measurement(true);
}

#[test]
fn garbled_images_of_a_drawn_test_split_change_nothing_but_the_measurement() {
    garbled_test_images_change_nothing_but_the_measurement(false);
}
