//! The stages of a job, each a file: [`source`], [`teacher`], [`student`], [`candidate`], [`search`], [`select`]. They
//! share one training loop ([`training`]), one way of leaving what a later attempt can go on from ([`checkpoint`]), one of
//! noting what was trained on ([`ledger`]), one of
//! measuring block costs ([`costs`]) and one of opening data, weights and reports ([`Stage`]).

mod candidate;
mod checkpoint;
mod costs;
mod error;
mod ledger;
mod search;
mod select;
mod source;
mod student;
mod teacher;
mod training;

use nettailor_collective::Collective;
use nettailor_domain::architecture::Architecture;
use nettailor_domain::backbone::Backbone;
use nettailor_domain::stage::{StageOutcome, StageWork};
use nettailor_domain::task::{BnMode, Precision, TrainingSettings};
use nettailor_domain::trainer::{Assignment, FailureClass, Finished, ParentInput, WEIGHTS_FILE};
use nettailor_domain::units::Accuracy;
use tch::{Device, Tensor};

use crate::data::{Batch, Dataset, Share, Split};
use crate::device::{Images, Layout};
use crate::model::network::Recipe;
use crate::model::{Network, Origin, Role};
use crate::report::{Reporter, Sink};
use crate::runtime::{self, Clock};
use crate::step::{ExchangeSettings, LearnerSettings};
use crate::weights::{self, Weights};

use checkpoint::Checkpoints;
use ledger::Ledger;

pub use error::Error;

/// Everything a stage works with.
pub(crate) struct Stage<'a> {
    assignment: &'a Assignment,
    backbone: Backbone,
    data: Dataset,
    layout: Layout,
    images: Images,
    gang: &'a dyn Collective,
    clock: Clock,
    checkpoints: Checkpoints,
    ledger: Option<Ledger<'a>>,
    report: Reporter<'a>,
}

/// Does what the assignment says, on `device`, as one rank of `gang`. Every rank comes to the same end; the first one
/// alone leaves files and tells `sink` of progress. A rank that fails ends the gang.
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
    let ended = attempt(assignment, device, gang, clock, sink);
    match &ended {
        // What is wrong with the inputs every rank finds by itself, and is to say so.
        Err(error) if error.class() != FailureClass::Input => {
            gang.abort(&format!("rank {} failed: {error}", gang.rank()));
        }
        _ => {}
    }
    ended
}

fn attempt<'a>(
    assignment: &'a Assignment,
    device: Device,
    gang: &'a dyn Collective,
    clock: Clock,
    sink: &'a mut Sink<'a>,
) -> Result<Finished, Error> {
    let report = Reporter::new(sink, clock, gang.rank() == 0);
    let mut stage = Stage::open(assignment, device, gang, clock, report)?;
    let outcome = match &assignment.spec.work {
        StageWork::Source { training } => source::run(&mut stage, training)?,
        StageWork::Teacher { training } => teacher::run(&mut stage, training)?,
        StageWork::Student { max_skip, student } => student::run(&mut stage, *max_skip, student)?,
        StageWork::Candidate { k, settings, student } => candidate::run(&mut stage, *k, settings, student)?,
        StageWork::Search {
            ladder,
            tolerance,
            settings,
            student,
        } => search::run(&mut stage, ladder, *tolerance, settings, student)?,
        StageWork::Select { .. } => select::run(&mut stage)?,
    };
    // Whatever happened, the shared file is what it was.
    verify_backbone(assignment)?;
    let samples = [Split::Train, Split::HeldOut, Split::Test].map(|split| stage.data.len(split) as u64);
    Ok(Finished {
        outcome,
        samples,
        unreadable: stage.data.unreadable(),
    })
}

fn verify_backbone(assignment: &Assignment) -> Result<(), Error> {
    match &assignment.backbone {
        Some(file) => Ok(weights::verify(&file.path, file.digest)?),
        None => Ok(()),
    }
}

impl<'a> Stage<'a> {
    fn open(
        assignment: &'a Assignment,
        device: Device,
        gang: &'a dyn Collective,
        clock: Clock,
        mut report: Reporter<'a>,
    ) -> Result<Self, Error> {
        let spec = &assignment.spec;
        let backbone = spec.arch.describe();
        verify_backbone(assignment)?;
        let checkpoints = Checkpoints::open(assignment, clock.elapsed())?;
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
        let share = Share {
            rank: gang.rank(),
            of: gang.world_size(),
        };
        if spec.precision == Precision::Bf16 && !runtime::multiplies_bf16(device) {
            eprintln!("warning: this CPU does not multiply in bf16; `precision: fp32` is far faster here");
        }
        let normalisation = reading.normalise.unwrap_or(backbone.normalisation);
        let layout = Layout::on(device).with(spec.precision);
        Ok(Self {
            assignment,
            backbone,
            data: data.for_rank(share),
            layout,
            images: Images::new(layout, &normalisation)?,
            gang,
            clock,
            checkpoints,
            ledger: Ledger::open(assignment)?,
            report,
        })
    }

    /// How this task's networks are built.
    fn recipe(&self, universal: Role, bn_mode: BnMode, origin: Origin) -> Recipe {
        let spec = &self.assignment.spec;
        let (classes, input) = (spec.classes.len() as u32, spec.reading.image_size);
        Recipe {
            universal,
            bn_mode,
            origin,
            classes,
            input,
            layout: self.layout,
        }
    }

    /// What learners are told besides their loss.
    fn learning(&self, training: &TrainingSettings) -> LearnerSettings {
        let spec = &self.assignment.spec;
        LearnerSettings {
            exchange: ExchangeSettings {
                sync_bn: spec.sync_bn,
                wire: spec.wire,
                bucket_bytes: None,
            },
            ..training.into()
        }
    }

    /// The shared weights.
    fn backbone_weights(&self) -> Result<Weights, Error> {
        let file = self.assignment.backbone.as_ref().ok_or(Error::NoBackbone)?;
        Ok(Weights::read(&file.path)?)
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

    /// The teacher's accuracy on the held-out split.
    fn teacher_held_out(&self) -> Result<Accuracy, Error> {
        let what = "teacher";
        let found = self
            .assignment
            .parents
            .iter()
            .find_map(|parent| match parent.result.outcome {
                StageOutcome::Teacher { held_out } => Some(held_out),
                _ => None,
            });
        found.ok_or(Error::NoParent { what })
    }

    /// The finished teacher, for evaluation.
    fn teacher(&self) -> Result<Network, Error> {
        let parent = self.parent("teacher", |outcome| {
            matches!(outcome, StageOutcome::Teacher { .. })
        })?;
        let weights = Weights::read(&parent.weights)?;
        let architecture = Architecture::backbone_only(&self.backbone);
        let recipe = self.recipe(Role::Frozen, BnMode::Task, Origin::Stored);
        Ok(Network::new(architecture, &weights, recipe)?.deployed()?)
    }

    /// A network of `architecture` over the frozen backbone, with the task's own tensors from `parent`.
    fn tailored(
        &self,
        architecture: Architecture,
        bn_mode: BnMode,
        parent: &ParentInput,
    ) -> Result<Network, Error> {
        let weights = self.backbone_weights()?.overlaid(Weights::read(&parent.weights)?);
        let recipe = self.recipe(Role::Frozen, bn_mode, Origin::Stored);
        Ok(Network::new(architecture, &weights, recipe)?)
    }

    /// A batch as the network wants it: images `[n, 3, side, side]`, valid until the next call; labels `[n]`.
    fn tensors(&self, batch: &Batch) -> Result<(Tensor, Tensor), Error> {
        let images = self.images.batch(&batch.pixels, batch.size)?;
        let labels = Tensor::f_from_slice(&batch.labels)?.f_to_device(self.layout.device)?;
        Ok((images, labels))
    }

    /// Leaves a task's own tensors in the first rank's folder: everything but the backbone's, and the scores.
    fn write_task(&self, network: &Network) -> Result<(), Error> {
        if self.gang.rank() != 0 {
            return Ok(());
        }
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

    /// Leaves the whole network in the first rank's folder, or as much of it as comes before its end: the backbone.
    fn write_whole(&self, network: &Network, with_end: bool) -> Result<(), Error> {
        if self.gang.rank() != 0 {
            return Ok(());
        }
        let kept = if with_end {
            network.variables.len()
        } else {
            network.end.start
        };
        let all = network.variables.iter().take(kept);
        let all = all.map(|variable| (variable.name.as_str(), &variable.tensor));
        Ok(weights::write(
            &self.assignment.output_dir.join(WEIGHTS_FILE),
            all,
        )?)
    }
}
