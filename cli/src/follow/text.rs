//! Progress in words.

use nettailor_domain::trainer::Progress;

use crate::quantity::seconds;

/// Everything that is known, on one line: `training, epoch 3/12, step 120/500, 1m 3s left, loss 0.123, ...`.
pub(crate) fn progress(progress: &Progress) -> String {
    let mut parts = vec![progress.phase.clone()];
    if progress.epochs > 0 {
        parts.push(format!("epoch {}/{}", progress.epoch, progress.epochs));
    }
    if progress.steps > 0 {
        parts.push(format!("step {}/{}", progress.step, progress.steps));
    }
    parts.extend(measures(progress));
    parts.join(", ")
}

/// What stands beside a bar: everything but the step.
pub(super) fn beside_bar(progress: &Progress) -> String {
    let epoch = if progress.epochs > 0 {
        format!("epoch {}/{}", progress.epoch, progress.epochs)
    } else {
        String::new()
    };
    let phase = if progress.phase == "training" && !epoch.is_empty() {
        String::new()
    } else {
        progress.phase.clone()
    };
    let parts = [phase, epoch].into_iter().filter(|part| !part.is_empty());
    parts.chain(measures(progress)).collect::<Vec<_>>().join(", ")
}

fn measures(progress: &Progress) -> impl Iterator<Item = String> {
    let started = progress.step > 0 && progress.loss != 0.0;
    // What matters most first: a narrow terminal cuts off the rest.
    [
        progress
            .eta_seconds
            .filter(|eta| *eta >= 0.1)
            .map(|eta| format!("{} left", seconds(eta))),
        started.then(|| format!("loss {:.3}", progress.loss)),
        progress
            .held_out
            .map(|held_out| format!("held-out {:.2} %", 100.0 * held_out)),
        (progress.expected_complexity > 0.0).then(|| format!("E[C] {:.2}", progress.expected_complexity)),
        (progress.images_per_second > 0.0).then(|| format!("{:.0} images/s", progress.images_per_second)),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_not_said() {
        let reading = Progress {
            phase: "reading data".into(),
            ..Progress::default()
        };
        assert_eq!(progress(&reading), "reading data");
        let training = Progress {
            phase: "training".into(),
            epoch: 3,
            epochs: 12,
            step: 120,
            steps: 500,
            loss: 0.1234,
            expected_complexity: 0.41,
            held_out: Some(0.972),
            images_per_second: 812.3,
            eta_seconds: Some(63.0),
            ..Progress::default()
        };
        assert_eq!(
            progress(&training),
            "training, epoch 3/12, step 120/500, 1m 3s left, loss 0.123, held-out 97.20 %, E[C] 0.41, 812 images/s"
        );
        assert_eq!(
            beside_bar(&training),
            "epoch 3/12, 1m 3s left, loss 0.123, held-out 97.20 %, E[C] 0.41, 812 images/s"
        );
    }
}
