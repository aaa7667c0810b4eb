//! Small networks on which the tests compute.

use nettailor_collective::Solo;
use nettailor_domain::architecture::{Architecture, Gradient};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::task::{BnMode, HintScale, Hints, Precision, StudentSettings};
use nettailor_trainer::device::Layout;
use nettailor_trainer::model::network::Recipe;
use nettailor_trainer::model::{Forward, Init, Mode, Network, Origin, Role};
use nettailor_trainer::step::{Gradients, Lesson, Losses, Part, StudentLoss, gradients};
use tch::{Device, Kind, Reduction, Tensor};

use crate::common;

pub(crate) const SIDE: u32 = 32;
pub(crate) const CLASSES: u32 = 5;
/// Batch statistics, running ones untouched.
pub(crate) const STILL: Mode<'static> = Mode::batch(0.0);

/// A student of the first blocks of a backbone, another network's forward pass to learn from, and a batch.
pub(crate) struct Setting {
    pub(crate) student: Network,
    pub(crate) teacher: Network,
    pub(crate) taught: Forward,
    pub(crate) images: Tensor,
    pub(crate) labels: Tensor,
    /// gamma1 is 0: complexity has tests of its own.
    pub(crate) settings: StudentSettings,
}

impl Setting {
    /// With statistics of the task's own, so that everything a step can move is there.
    pub(crate) fn new(name: BackboneName, blocks: usize, shape: impl Fn(&mut Architecture)) -> Self {
        let settings = StudentSettings {
            bn_mode: BnMode::Task,
            ..StudentSettings::default()
        };
        Self::with(name, blocks, shape, settings)
    }

    pub(crate) fn with(
        name: BackboneName,
        blocks: usize,
        shape: impl Fn(&mut Architecture),
        settings: StudentSettings,
    ) -> Self {
        Self::within(Precision::Fp32, name, blocks, shape, settings)
    }

    pub(crate) fn within(
        precision: Precision,
        name: BackboneName,
        blocks: usize,
        shape: impl Fn(&mut Architecture),
        settings: StudentSettings,
    ) -> Self {
        tch::set_num_threads(1);
        let settings = StudentSettings {
            gamma1: 0.0,
            ..settings
        };
        let backbone = common::backbone(name, blocks);
        let layout = Layout::on(Device::Cpu).with(precision);
        let recipe = Recipe {
            universal: Role::Frozen,
            bn_mode: settings.bn_mode,
            origin: Origin::Fresh { seed: 3 },
            classes: CLASSES,
            input: SIDE,
            layout,
        };
        let mut architecture = Architecture::new(&backbone, 3);
        shape(&mut architecture);
        let student = Network::with_backbone(
            backbone.clone(),
            architecture,
            &common::weights(&backbone, 1),
            recipe,
        )
        .unwrap();
        // Proxies start small; here their share of the node should matter.
        for variable in student
            .variables
            .iter()
            .filter(|variable| variable.name.ends_with("conv.weight"))
        {
            if variable.role == Role::Trained {
                let _scaled = tch::no_grad(|| variable.tensor.shallow_clone().f_mul_scalar_(30.0)).unwrap();
            }
        }
        let plain = Architecture::backbone_only(&backbone);
        let recipe = Recipe {
            bn_mode: BnMode::Task,
            ..recipe
        };
        let teacher =
            Network::with_backbone(backbone.clone(), plain, &common::weights(&backbone, 2), recipe).unwrap();
        let values = Init::Normal(1.0).values(4, "images", (6 * 3 * SIDE * SIDE) as usize);
        let images = Tensor::from_slice(&values).view([6, 3, i64::from(SIDE), i64::from(SIDE)]);
        let images = layout.ordered(&images.to_kind(layout.kind())).unwrap();
        let taught = tch::no_grad(|| teacher.forward(&images, Mode::EVALUATE)).unwrap();
        Self {
            settings,
            student,
            teacher,
            taught,
            images,
            labels: Tensor::from_slice(&[0i64, 1, 2, 3, 4, 0]),
        }
    }

    /// What one step of the product finds.
    pub(crate) fn found(&self, hints: Hints, mode: Mode<'_>) -> (Losses, Gradients) {
        let none = |a: &Architecture| {
            let layers = a.layers.iter();
            let nothing: Gradient = layers.map(|l| vec![0.0; l.blocks.len()]).collect();
            (0.0, nothing)
        };
        let settings = StudentSettings {
            hints,
            ..self.settings.clone()
        };
        let loss = StudentLoss::new(&settings, 0.0, &none);
        let gang = Solo::new();
        let lesson = Lesson::new(&self.taught, &gang);
        gradients(&self.student, self.part(), Some(&lesson), &loss, mode).unwrap()
    }

    /// The batch.
    pub(crate) fn part(&self) -> Part<'_> {
        Part::whole(&self.images, &self.labels)
    }

    /// gamma2 / L.
    fn weight(&self) -> f64 {
        self.settings.gamma2 / self.student.layers.len() as f64
    }

    /// Mean square of the difference, in the unit that the task asks for.
    fn distance(&self, ours: &Tensor, target: &Tensor) -> Tensor {
        let distance = ours.mse_loss(target, Reduction::Mean);
        match self.settings.hint_scale {
            HintScale::Absolute => distance,
            HintScale::Relative => distance / target.var(false),
        }
    }

    /// The gradient of the whole loss by one backward pass over one graph, which is what end-to-end hints are.
    pub(crate) fn end_to_end(&self) -> (Vec<Tensor>, Vec<Option<Tensor>>) {
        let attention = self.student.attention(true).unwrap();
        let run = self
            .student
            .forward_with(&self.images, STILL, &attention)
            .unwrap();
        let mut loss = self.task_loss(&run.logits);
        for (node, x) in run.nodes.iter().enumerate().skip(1) {
            loss += self.hint(node, x.as_ref().unwrap());
        }
        let mut inputs: Vec<Tensor> = self.trained().into_iter().map(|(_, tensor)| tensor).collect();
        inputs.extend(attention.iter().flatten().map(Tensor::shallow_clone));
        (Tensor::run_backward(&[loss], &inputs, false, false), attention)
    }

    pub(crate) fn trained(&self) -> Vec<(usize, Tensor)> {
        let variables = &self.student.variables;
        variables
            .trained(0..variables.len())
            .into_iter()
            .map(|i| (i, variables.get(i).tensor.shallow_clone()))
            .collect()
    }

    /// Cross-entropy and the logits' hint.
    pub(crate) fn task_loss(&self, logits: &Tensor) -> Tensor {
        let target = &self.taught.logits;
        let hint = match self.settings.temperature {
            None => self.distance(logits, target),
            Some(t) => {
                let (ours, theirs) = (logits / t, target / t);
                let (ours, theirs) = (
                    ours.log_softmax(1, Kind::Float),
                    theirs.log_softmax(1, Kind::Float),
                );
                let divergence = ours.kl_div(&theirs, Reduction::Sum, true) / logits.size()[0] as f64;
                divergence * (t * t)
            }
        };
        logits.cross_entropy_for_logits(&self.labels) + hint * self.weight()
    }

    pub(crate) fn hint(&self, node: usize, x: &Tensor) -> Tensor {
        self.distance(x, self.taught.nodes[node].as_ref().unwrap()) * self.weight()
    }

    /// Compares with gradients on the trained tensors, then on every layer's attention.
    pub(crate) fn compare(&self, found: &Gradients, expected: &[Tensor], attention: &[Option<Tensor>]) {
        let trained = self.trained();
        for ((index, _), expected) in trained.iter().zip(expected) {
            let name = &self.student.variables.get(*index).name;
            match &found.tensors[*index] {
                Some(ours) => near(name, ours, expected),
                None => assert!(!expected.defined(), "no gradient on {name}"),
            }
        }
        let mut rest = expected[trained.len()..].iter();
        for (layer, tensor) in attention.iter().enumerate() {
            let ours = Tensor::from_slice(&found.attention[layer]).to_kind(Kind::Float);
            match tensor {
                Some(_) => near(&format!("attention {layer}"), &ours, rest.next().unwrap()),
                None => assert!(found.attention[layer].iter().all(|g| *g == 0.0)),
            }
        }
    }
}

pub(crate) fn near(what: &str, ours: &Tensor, expected: &Tensor) {
    let off = f64::try_from((ours - expected).abs().max()).unwrap();
    let scale = f64::try_from(expected.abs().max()).unwrap();
    assert!(
        scale > 0.0,
        "{what}: the expected gradient is zero, the test shows nothing"
    );
    assert!(off <= 2e-4 * scale, "{what}: off by {off:.2e} of {scale:.2e}");
}

pub(crate) fn everything(_: &mut Architecture) {}

/// A pruned network: a layer with its main block alone, one with a single proxy, one with proxies only.
pub(crate) fn pruned(architecture: &mut Architecture) {
    let removed = nettailor_domain::architecture::Fate::RemovedByRank;
    for block in &mut architecture.layers[0].blocks[1..] {
        block.fate = removed;
    }
    architecture.layers[1].blocks[0].fate = removed;
    architecture.layers[1].blocks[2].fate = removed;
    architecture.layers[2].blocks[0].fate = removed;
}
