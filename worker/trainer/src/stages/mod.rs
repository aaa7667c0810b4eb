//! The stages of a job, each a file: [`teacher`], [`student`], [`candidate`], [`select`]. They share one training loop
//! ([`training`]) and one way of opening data, weights and reports ([`Stage`]).

mod candidate;
mod error;
mod select;
mod student;
mod teacher;
mod training;

use nettailor_collective::Collective;
use nettailor_domain::architecture::Architecture;
use nettailor_domain::backbone::Backbone;
use nettailor_domain::stage::{StageOutcome, StageWork};
use nettailor_domain::trainer::{Assignment, Finished, ParentInput, WEIGHTS_FILE};
use tch::{Device, Tensor};

use crate::data::{Batch, Dataset, Split};
use crate::device::{Images, Layout};
use crate::model::network::Recipe;
use crate::model::{Network, Origin, Role};
use crate::report::{Reporter, Sink};
use crate::runtime::Clock;
use crate::weights::{self, Weights};

pub use error::Error;

/// Everything a stage works with.
pub(crate) struct Stage<'a> {
    assignment: &'a Assignment,
    backbone: Backbone,
    data: Dataset,
    layout: Layout,
    images: Images,
    gang: &'a dyn Collective,
    report: Reporter<'a>,
}

/// Does what the assignment says, on `device`, as one rank of `gang`; progress goes to `sink`.
///
/// # Errors
/// See [`Error`]; [`Error::failure`] tells whether another attempt can help.
pub fn run<'a>(
    assignment: &'a Assignment,
    device: Device,
    gang: &'a dyn Collective,
    clock: Clock,
    sink: &'a mut Sink<'a>,
) -> Result<Finished, Error> {
    let mut stage = Stage::open(assignment, device, gang, Reporter::new(sink, clock))?;
    let outcome = match &assignment.spec.work {
        StageWork::Teacher { training } => teacher::run(&mut stage, training)?,
        StageWork::Student { max_skip, student } => student::run(&mut stage, *max_skip, student)?,
        StageWork::Candidate { k, settings, student } => candidate::run(&mut stage, *k, settings, student)?,
        StageWork::Select { .. } => select::run(&mut stage)?,
    };
    // Whatever happened, the shared file is what it was.
    weights::verify(&assignment.backbone, assignment.spec.backbone)?;
    let samples = [Split::Train, Split::HeldOut, Split::Test].map(|split| stage.data.len(split) as u64);
    Ok(Finished {
        outcome,
        samples,
        unreadable: stage.data.unreadable(),
    })
}

impl<'a> Stage<'a> {
    fn open(
        assignment: &'a Assignment,
        device: Device,
        gang: &'a dyn Collective,
        mut report: Reporter<'a>,
    ) -> Result<Self, Error> {
        let spec = &assignment.spec;
        let backbone = spec.arch.describe();
        weights::verify(&assignment.backbone, spec.backbone)?;
        report.phase("reading data");
        let (reading, cache) = (&spec.reading, &assignment.cache_dir);
        let mut log = |text: &str| eprintln!("{text}");
        let data = Dataset::open(
            &assignment.data,
            spec.data,
            reading,
            &spec.classes,
            spec.seed,
            cache,
            &mut log,
        )?;
        let normalisation = reading.normalise.unwrap_or(backbone.normalisation);
        let layout = Layout::on(device).with(spec.precision);
        Ok(Self {
            assignment,
            backbone,
            data,
            layout,
            images: Images::new(layout, &normalisation)?,
            gang,
            report,
        })
    }

    fn recipe(&self, universal: Role, origin: Origin) -> Recipe {
        let spec = &self.assignment.spec;
        let (classes, input) = (spec.classes.len() as u32, spec.reading.image_size);
        Recipe {
            universal,
            origin,
            classes,
            input,
            layout: self.layout,
        }
    }

    /// The result of a parent whose outcome `choose` accepts.
    fn parent(
        &self,
        what: &'static str,
        choose: impl Fn(&StageOutcome) -> bool,
    ) -> Result<&'a ParentInput, Error> {
        let assignment = self.assignment;
        assignment
            .parents
            .iter()
            .find(|parent| choose(&parent.result.outcome))
            .ok_or(Error::NoParent { what })
    }

    /// The finished teacher, for evaluation.
    fn teacher(&self) -> Result<Network, Error> {
        let parent = self.parent("teacher", |outcome| {
            matches!(outcome, StageOutcome::Teacher { .. })
        })?;
        let weights = Weights::read(&parent.weights)?;
        let architecture = Architecture::backbone_only(&self.backbone);
        let network = Network::new(architecture, &weights, self.recipe(Role::Frozen, Origin::Stored))?;
        Ok(network.deployed()?)
    }

    /// A network of `architecture` over the frozen backbone, with the task's own tensors from `parent`.
    fn tailored(&self, architecture: Architecture, parent: &ParentInput) -> Result<Network, Error> {
        let weights = Weights::read(&self.assignment.backbone)?.overlaid(Weights::read(&parent.weights)?);
        Ok(Network::new(
            architecture,
            &weights,
            self.recipe(Role::Frozen, Origin::Stored),
        )?)
    }

    /// A batch as the network wants it: images `[n, 3, side, side]`, valid until the next call; labels `[n]`.
    fn tensors(&self, batch: &Batch) -> Result<(Tensor, Tensor), Error> {
        let images = self.images.batch(&batch.pixels, batch.size)?;
        let labels = Tensor::f_from_slice(&batch.labels)?.f_to_device(self.layout.device)?;
        Ok((images, labels))
    }

    /// Leaves a task's own tensors in the attempt's folder: everything but the backbone's, and the scores.
    fn write_task(&self, network: &Network) -> Result<(), Error> {
        let scores = network.scores()?;
        let own = network
            .variables
            .iter()
            .filter(|variable| variable.role != Role::Frozen);
        let own = own.map(|variable| (variable.name.as_str(), &variable.tensor));
        let scores = scores.iter().map(|(name, tensor)| (name.as_str(), tensor));
        Ok(weights::write(
            &self.assignment.output_dir.join(WEIGHTS_FILE),
            own.chain(scores),
        )?)
    }

    /// Leaves the whole network in the attempt's folder.
    fn write_whole(&self, network: &Network) -> Result<(), Error> {
        let all = network
            .variables
            .iter()
            .map(|variable| (variable.name.as_str(), &variable.tensor));
        Ok(weights::write(
            &self.assignment.output_dir.join(WEIGHTS_FILE),
            all,
        )?)
    }
}
