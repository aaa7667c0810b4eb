//! A case file opened: its networks, images and numbers.

use std::collections::HashMap;

use nettailor_domain::architecture::{Architecture, Fate, Gradient};
use nettailor_domain::task::{BnMode, HintScale, Hints, StudentSettings};
use nettailor_trainer::device::Layout;
use nettailor_trainer::model::network::Recipe;
use nettailor_trainer::model::{Forward, Network, Origin, Role};
use nettailor_trainer::step::{Losses, StudentLoss};
use nettailor_trainer::weights::Weights;
use serde_json::{Map, Value};
use tch::{Device, Kind, Tensor};

use crate::hash_init;
use crate::reference::{Ledger, Tolerance, integers, numbers};
use crate::subjects::Subject;

pub(crate) const CLASSES: i64 = 10;

pub(crate) struct Case {
    pub(crate) subject: Subject,
    pub(crate) images: Tensor,
    pub(crate) labels: Tensor,
    /// By layer and block: FLOPs as a share of the reference's normaliser, which counts the stem in its own way.
    pub(crate) costs: Vec<Vec<f64>>,
    /// Name to shape of every tensor of the student.
    pub(crate) shapes: Map<String, Value>,
    pub(crate) expected: Map<String, Value>,
    settings: Value,
    losses: Value,
    size: u32,
}

impl Case {
    pub(crate) fn open(subject: Subject) -> Self {
        tch::set_num_threads(1);
        let (mut case, structure) = (subject.case(), subject.structure());
        let settings = case["settings"].take();
        let [size, batch] = ["size", "batch"].map(|key| settings[key].as_i64().unwrap());
        assert_eq!(settings["classes"], CLASSES);
        let seed = settings["input_seed"].as_u64().unwrap();
        let half_width = 3f64.sqrt() as f32;
        let images = hash_init::uniform("input", &[batch, 3, size, size], seed, 0.0, half_width);
        let norm = structure["norm_flops"].as_f64().unwrap();
        let costs = structure["layers"].as_array().unwrap().iter().map(|layer| {
            let proxies = layer["proxies"].as_array().unwrap();
            let blocks = std::iter::once(&layer["main"]).chain(proxies);
            blocks
                .map(|block| block["flops"].as_f64().unwrap() / norm)
                .collect()
        });
        let object = |value: &Value| value.as_object().unwrap().clone();
        Self {
            subject,
            images: Layout::on(Device::Cpu).ordered(&images).unwrap(),
            labels: hash_init::labels(batch, CLASSES),
            costs: costs.collect(),
            shapes: object(&structure["state_dict_shapes"]),
            expected: object(&case["from_f64"]),
            losses: case["losses_f64"].take(),
            settings,
            size: size as u32,
        }
    }

    pub(crate) fn ledger(&self, concern: &str) -> Ledger<'_> {
        Ledger::new(format!("{}, {concern}", self.subject.case), &self.expected)
    }

    pub(crate) fn setting(&self, name: &str) -> f64 {
        self.settings[name].as_f64().unwrap()
    }

    /// The student before pruning (`whole`) or as the case has it.
    pub(crate) fn architecture(&self, whole: bool) -> Architecture {
        let mut architecture = Architecture::new(&self.subject.backbone.describe(), 3);
        let keep = self.settings["keep"].as_array().filter(|_| !whole);
        for (index, layer) in architecture.layers.iter_mut().enumerate() {
            let name = format!("layers.{index}.alphas_params");
            let scores = hash_init::tensor(&name, &[layer.blocks.len() as i64], 0);
            let scores: Vec<f32> = Vec::try_from(scores).unwrap();
            let kept = keep.map_or_else(|| vec![1.0; scores.len()], |keep| numbers(&keep[index]));
            assert_eq!(kept.len(), scores.len());
            for ((block, score), kept) in layer.blocks.iter_mut().zip(scores).zip(kept) {
                block.score = score;
                if kept == 0.0 {
                    block.fate = Fate::RemovedByRank;
                }
            }
        }
        architecture
    }

    pub(crate) fn student(&self) -> Network {
        self.network(self.architecture(false))
    }

    /// The student with nothing removed: all tensors that the reference has.
    pub(crate) fn whole_student(&self) -> Network {
        self.network(self.architecture(true))
    }

    fn network(&self, architecture: Architecture) -> Network {
        let whole = self.architecture(true);
        let subject = self.subject;
        let weights = self.weights(&whole, 0, |name| subject.student_name(name));
        Network::new(architecture, &weights, self.recipe()).unwrap()
    }

    pub(crate) fn teacher(&self) -> Network {
        let plain = Architecture::backbone_only(&self.subject.backbone.describe());
        let subject = self.subject;
        let weights = self.weights(&plain, 1, |name| subject.teacher_name(name));
        let teacher = Network::new(plain, &weights, self.recipe()).unwrap();
        teacher.deployed().unwrap()
    }

    fn recipe(&self) -> Recipe {
        Recipe {
            universal: Role::Frozen,
            bn_mode: BnMode::Task,
            origin: Origin::Stored,
            classes: CLASSES as u32,
            input: self.size,
            layout: Layout::on(Device::Cpu),
        }
    }

    /// Every tensor of a network of `architecture` that the reference lists, initialised as the reference does.
    fn weights(&self, architecture: &Architecture, seed: u64, seeded_by: impl Fn(&str) -> String) -> Weights {
        let tensors = names(architecture).into_iter().map(|name| {
            let theirs = self.subject.student_name(&name);
            let shape = self.shapes.get(&theirs);
            let shape = integers(shape.unwrap_or_else(|| panic!("the reference has no {theirs}")));
            let tensor = hash_init::tensor(&seeded_by(&name), &shape, seed);
            (name, tensor)
        });
        Weights::from_tensors(tensors.collect::<HashMap<_, _>>(), "reference initialisation")
    }

    pub(crate) fn loss<'a>(
        &self,
        complexity: &'a dyn Fn(&Architecture) -> (f64, Gradient),
    ) -> StudentLoss<'a> {
        let settings = StudentSettings {
            gamma1: self.setting("complexity_coeff"),
            gamma2: self.setting("teacher_coeff"),
            hints: Hints::Local,
            hint_scale: HintScale::Absolute,
            ..StudentSettings::default()
        };
        StudentLoss::new(&settings, 0.0, complexity)
    }

    /// How near the losses of step `step` (from 1) must be: before the first update, and after.
    fn loss_tolerance(&self, step: &str) -> f64 {
        let later = self.subject.tolerances.third_step;
        match (step, later) {
            ("step2" | "step3", Some(Tolerance::Largest(allowed) | Tolerance::Norm(allowed))) => allowed,
            _ => 2e-5,
        }
    }

    /// Compares the losses of `step`. The reference's parts: cross-entropy, teacher, complexity and their sum.
    pub(crate) fn check_losses(&self, ledger: &mut Ledger<'_>, step: &str, losses: Losses) {
        for (name, ours) in [
            ("ce", losses.cross_entropy),
            ("teacher", losses.hint),
            ("complexity", losses.complexity),
            ("total", losses.total),
        ] {
            let theirs = self.losses[step][name].as_f64().unwrap();
            ledger.number(&format!("{step} {name}"), ours, theirs, self.loss_tolerance(step));
        }
    }

    /// Compares the parts of the teacher's term of `step`: the logits' squared distance, then that of every node.
    pub(crate) fn check_hints(&self, ledger: &mut Ledger<'_>, step: &str, ours: &Forward, teacher: &Forward) {
        let pairs = ours.nodes[1..].iter().zip(&teacher.nodes[1..]);
        let pairs = pairs.map(|(x, target)| (x.as_ref().unwrap(), target.as_ref().unwrap()));
        let pairs = std::iter::once((&ours.logits, &teacher.logits)).chain(pairs);
        let found: Vec<f64> = pairs
            .map(|(x, target)| f64::try_from((x - target).square().mean(Kind::Double)).unwrap())
            .collect();
        let expected = numbers(&self.losses[step]["teacher_terms"]);
        assert_eq!(found.len(), expected.len(), "{step}: terms");
        for (index, (found, expected)) in found.into_iter().zip(expected).enumerate() {
            ledger.number(
                &format!("{step} teacher term {index}"),
                found,
                expected,
                self.loss_tolerance(step),
            );
        }
    }
}

/// All names of a network of `architecture`.
fn names(architecture: &Architecture) -> Vec<String> {
    use nettailor_domain::backbone::ProxyForm;
    let backbone = architecture.backbone.describe();
    let mut names: Vec<String> = backbone.tensors().into_iter().map(|spec| spec.name).collect();
    let norm = |prefix: &str| {
        ["weight", "bias", "running_mean", "running_var"].map(|part| format!("{prefix}.{part}"))
    };
    let steps: &[&str] = match backbone.proxy_form {
        ProxyForm::Conv => &[""],
        ProxyForm::Bottleneck => &["1", "2"],
    };
    for (layer, number) in architecture.layers.iter().zip(1..) {
        for block in &layer.blocks[1..] {
            for step in steps {
                let prefix = format!("proxies.{number}.{}", block.source);
                names.push(format!("{prefix}.conv{step}.weight"));
                names.extend(norm(&format!("{prefix}.bn{step}")));
            }
        }
    }
    if backbone.end_bn {
        names.extend(norm("end_bn"));
    }
    names.extend(["classifier.weight", "classifier.bias"].map(str::to_owned));
    names
}
