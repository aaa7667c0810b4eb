//! Steps of training, resnet34 with K = 3 and 10 classes, each ready to be taken again and again.

use nettailor_collective::Collective;
use nettailor_domain::architecture::{Architecture, BlockCosts, ComplexityForm};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::task::{Hints, StudentSettings};
use nettailor_trainer::device::Layout;
use nettailor_trainer::model::{Mode, Network, Role};
use nettailor_trainer::step::{
    Cohort, Learner, Losses, Moment, Part, Pressure, StudentLearner, StudentLoss, TeacherLearner,
};
use tch::{Device, Tensor};

use crate::random::{inputs, recipe, weights};
use crate::ranks::Other;
use crate::serve;

const AT: Moment = Moment {
    learning_rate: 1e-3,
    progress: 0.5,
};

/// A batch, and of how many images it is this rank's part.
pub(crate) struct Work {
    images: Tensor,
    labels: Tensor,
    whole: u32,
}

impl Work {
    /// `batch` images of a batch of `whole`.
    pub(crate) fn new(layout: Layout, side: u32, batch: u32, whole: u32) -> anyhow::Result<Self> {
        let (images, labels) = inputs(layout, side, batch)?;
        Ok(Self {
            images,
            labels,
            whole,
        })
    }

    fn step(&self, learner: &mut dyn Learner) -> anyhow::Result<Losses> {
        let part = Part {
            images: &self.images,
            labels: &self.labels,
            whole: i64::from(self.whole),
        };
        Ok(learner.step(part, AT)?)
    }
}

/// The teacher's: every weight is trained. `others` are the ranks that are told what this one is told.
pub(crate) fn teacher(
    layout: Layout,
    side: u32,
    work: &Work,
    gang: &dyn Collective,
    others: &mut [Other],
) -> anyhow::Result<()> {
    let backbone = BackboneName::Resnet34.describe();
    let architecture = Architecture::backbone_only(&backbone);
    let network = Network::new(
        architecture,
        &weights(&backbone, 0)?,
        recipe(layout, side, Role::Trained),
    )?;
    let settings = StudentSettings::default().training;
    let mut learner = TeacherLearner::new(network, (&settings).into(), 0.0, gang)?;
    serve(0, others, || work.step(&mut learner).map(drop))
}

/// The student's: proxies, attention and classifier, with hints from a teacher.
pub(crate) fn student(
    layout: Layout,
    side: u32,
    gang: &dyn Collective,
    run: impl FnOnce(&mut dyn Learner) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let backbone = BackboneName::Resnet34.describe();
    let weights = weights(&backbone, 0)?;
    let network = |architecture| Network::new(architecture, &weights, recipe(layout, side, Role::Frozen));
    let teacher = network(Architecture::backbone_only(&backbone))?.deployed()?;
    let student = network(Architecture::new(&backbone, 3))?;
    let costs = BlockCosts::counted(&student.architecture, &backbone, side, |cost| cost.flops as f64);
    let complexity = |a: &Architecture| a.expected_complexity(ComplexityForm::Product, &costs);
    // What a plain implementation has to run every block twice for.
    let settings = StudentSettings {
        hints: Hints::Local,
        ..StudentSettings::default()
    };
    let loss = StudentLoss::new(&settings, 0.0, &complexity);
    let pressure = Pressure {
        gamma1_ramp: 0.0,
        score_rate: 0.1,
        mode: Mode::TRAIN,
    };
    let mut learner = StudentLearner::new(student, loss, pressure, (&settings.training).into(), gang)?;
    run(&mut Cohort::new(Some(&teacher), vec![&mut learner]))
}

/// [`student`], timed.
pub(crate) fn student_steps(
    layout: Layout,
    side: u32,
    work: &Work,
    gang: &dyn Collective,
) -> anyhow::Result<()> {
    student(layout, side, gang, |learner| {
        serve(0, &mut [], || work.step(learner).map(drop))
    })
}

/// Two of the student's steps on the CPU and on `layout`'s device, from the same weights and images; prints how far the
/// losses are apart, and fails where that is more than rounding.
pub(crate) fn parity(layout: Layout, side: u32, batch: u32, gang: &dyn Collective) -> anyhow::Result<()> {
    const TOLERANCE: f64 = 1e-3;
    let host = Layout::on(Device::Cpu).with(layout.precision);
    let (images, labels) = inputs(host, side, batch)?;
    let losses = |layout: Layout| -> anyhow::Result<Vec<f64>> {
        let work = Work {
            images: layout.ordered(&images.f_to_device(layout.device)?)?,
            labels: labels.f_to_device(layout.device)?,
            whole: batch,
        };
        let mut found = Vec::new();
        student(layout, side, gang, |learner| {
            for _ in 0..2 {
                let Losses {
                    total,
                    cross_entropy,
                    hint,
                    complexity,
                } = work.step(learner)?;
                found.extend([total, cross_entropy, hint, complexity]);
            }
            Ok(())
        })?;
        Ok(found)
    };
    let (expected, found) = (losses(host)?, losses(layout)?);
    let apart = expected
        .iter()
        .zip(&found)
        .map(|(a, b)| (a - b).abs() / a.abs().max(1e-9));
    let apart = apart.fold(0.0, f64::max);
    println!("losses of two steps, CPU {expected:.5?}");
    println!("{:>24} {found:.5?}", format!("{:?}", layout.device));
    println!("largest relative difference {apart:.1e}, allowed {TOLERANCE:.0e}");
    anyhow::ensure!(apart <= TOLERANCE, "the device computes something else");
    Ok(())
}
