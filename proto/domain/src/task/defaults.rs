//! Defaults of more than one place, and those that serde asks for by name.

use super::{Schedule, TrainingSettings};

pub(super) fn max_skip() -> usize {
    3
}
pub(super) fn tolerance_points() -> f64 {
    0.5
}
pub(super) fn image_size() -> u32 {
    224
}
pub(super) fn held_out() -> f64 {
    0.2
}
pub(super) fn teacher() -> TrainingSettings {
    training(0.01, 64, 20, [0.4, 0.8])
}
pub(super) fn source() -> TrainingSettings {
    training(0.1, 64, 60, [0.4, 0.8])
}
pub(super) fn training(
    learning_rate: f64,
    batch_size: u32,
    epochs: u32,
    milestones: [f64; 2],
) -> TrainingSettings {
    let milestones = milestones.to_vec();
    TrainingSettings {
        epochs,
        batch_size,
        learning_rate,
        schedule: Schedule::Step,
        milestones,
        momentum: 0.9,
        weight_decay: 5e-4,
        label_smoothing: 0.0,
        ema: 0.0,
    }
}
