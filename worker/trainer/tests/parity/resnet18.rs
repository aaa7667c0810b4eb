//! Three steps of ResNet-18, whole and pruned.

use std::collections::HashMap;

use nettailor_collective::Solo;
use nettailor_domain::architecture::{Architecture, Fate, Gradient};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::task::Hints;
use nettailor_trainer::device::Layout;
use nettailor_trainer::model::network::Recipe;
use nettailor_trainer::model::{Mode, Network, Origin, Role, Statistics};
use nettailor_trainer::step::{Gradients, Learner};
use nettailor_trainer::step::{
    LearnerSettings, Losses, Moment, SgdSettings, StudentLearner, StudentLoss, gradients,
};
use nettailor_trainer::weights::Weights;
use serde_json::Value;
use tch::{Device, Tensor};

use crate::hash_init;
use crate::reference::{assert_matches, json, numbers};

const CLASSES: i64 = 10;
/// The reference runs each block twice in a step: its running statistics move twice towards the same values.
const TWICE: f64 = 0.19;

/// The reference's name of one of our tensors.
fn theirs(ours: &str) -> String {
    let backbone = BackboneName::Resnet18.describe();
    if let Some(rest) = ours.strip_prefix("proxies.") {
        let [layer, source, rest]: [&str; 3] = rest.splitn(3, '.').collect::<Vec<_>>().try_into().unwrap();
        let (layer, source): (usize, usize) = (layer.parse().unwrap(), source.parse().unwrap());
        return format!("layers.{}.proxies.{}.{rest}", layer - 1, layer - 1 - source);
    }
    for (index, block) in backbone.blocks.iter().enumerate() {
        let prefix = block.body[0].conv.strip_suffix("conv1").unwrap();
        if let Some(rest) = ours.strip_prefix(prefix) {
            let rest = rest
                .replace("downsample.0", "conv_res")
                .replace("downsample.1", "bn_res");
            return format!("layers.{index}.main.{rest}");
        }
    }
    ours.to_owned()
}

/// The tensors that `structure` lists, initialised as the reference does, under our names.
fn weights(structure: &Value, names: Vec<String>, seed: u64, seeded_by: fn(&str) -> String) -> Weights {
    let shapes = structure["state_dict_shapes"].as_object().unwrap();
    let tensors = names.into_iter().map(|name| {
        let theirs = theirs(&name);
        let shape = shapes
            .get(&theirs)
            .unwrap_or_else(|| panic!("the reference has no {theirs}"));
        let shape: Vec<i64> = numbers(shape).iter().map(|n| *n as i64).collect();
        let tensor = hash_init::tensor(&seeded_by(&name), &shape, seed);
        (name, tensor)
    });
    Weights::from_tensors(tensors.collect::<HashMap<_, _>>(), "reference initialisation")
}

/// All names of a network of `architecture`.
fn names(architecture: &Architecture) -> Vec<String> {
    let backbone = architecture.backbone.describe();
    let mut names: Vec<String> = backbone.tensors().into_iter().map(|spec| spec.name).collect();
    for (layer, number) in architecture.layers.iter().zip(1..) {
        for block in &layer.blocks[1..] {
            for part in [
                "conv.weight",
                "bn.weight",
                "bn.bias",
                "bn.running_mean",
                "bn.running_var",
            ] {
                names.push(format!("proxies.{number}.{}.{part}", block.source));
            }
        }
    }
    names.extend(["classifier.weight".to_owned(), "classifier.bias".to_owned()]);
    names
}

struct Case {
    settings: Value,
    expected: Value,
    losses: Value,
    costs: Vec<Vec<f64>>,
    images: Tensor,
    labels: Tensor,
}

impl Case {
    /// The case, its student and its teacher.
    fn load(file: &str) -> (Self, Network, Network) {
        let case = json(file);
        let structure = json("struct_resnet18_skip3.json");
        let settings = case["settings"].clone();
        let (size, batch) = (
            settings["size"].as_i64().unwrap(),
            settings["batch"].as_i64().unwrap(),
        );
        let backbone = BackboneName::Resnet18.describe();

        let mut architecture = Architecture::new(&backbone, 3);
        for (index, layer) in architecture.layers.iter_mut().enumerate() {
            let name = format!("layers.{index}.alphas_params");
            let scores = hash_init::tensor(&name, &[layer.blocks.len() as i64], 0);
            let scores: Vec<f32> = Vec::try_from(scores).unwrap();
            for (position, block) in layer.blocks.iter_mut().enumerate() {
                block.score = scores[position];
                if settings["keep"][index][position] == 0.0 {
                    block.fate = Fate::RemovedByRank;
                }
            }
        }
        let layout = Layout::on(Device::Cpu);
        let recipe = |universal| Recipe {
            universal,
            origin: Origin::Stored,
            classes: 10,
            input: size as u32,
            layout,
        };
        let plain = Architecture::backbone_only(&backbone);
        let student_weights = weights(&structure, names(&architecture), 0, theirs);
        // The teacher is seeded by torchvision's names, which are ours.
        let torchvision = |name: &str| name.replace("classifier", "fc");
        let teacher_weights = weights(&structure, names(&plain), 1, torchvision);
        let half_width = 3f64.sqrt() as f32;
        let seed = settings["input_seed"].as_u64().unwrap();
        let images = hash_init::uniform("input", &[batch, 3, size, size], seed, 0.0, half_width);
        let norm = structure["norm_flops"].as_f64().unwrap();
        let costs = structure["layers"].as_array().unwrap().iter().map(|layer| {
            let proxies = layer["proxies"].as_array().unwrap().iter();
            std::iter::once(&layer["main"])
                .chain(proxies)
                .map(|b| b["flops"].as_f64().unwrap() / norm)
                .collect()
        });
        let student = Network::new(architecture, &student_weights, recipe(Role::Frozen)).unwrap();
        let teacher = Network::new(plain, &teacher_weights, recipe(Role::Frozen)).unwrap();
        let teacher = teacher.deployed().unwrap();
        let case = Self {
            costs: costs.collect(),
            expected: case["from_f64"].clone(),
            losses: case["losses_f64"].clone(),
            images: layout.ordered(&images).unwrap(),
            labels: hash_init::labels(batch, CLASSES),
            settings,
        };
        (case, student, teacher)
    }

    fn setting(&self, name: &str) -> f64 {
        self.settings[name].as_f64().unwrap()
    }

    fn check(&self, name: &str, ours: &Tensor, tolerance: f64) {
        let entry = self
            .expected
            .get(name)
            .unwrap_or_else(|| panic!("the case has no {name}"));
        assert_matches(name, ours, entry, tolerance);
    }

    fn check_losses(&self, step: &str, losses: Losses) {
        let expected = &self.losses[step];
        for (name, ours) in [
            ("ce", losses.cross_entropy),
            ("teacher", losses.hint),
            ("complexity", losses.complexity),
            ("total", losses.total),
        ] {
            let theirs = expected[name].as_f64().unwrap();
            assert!(
                (ours - theirs).abs() <= 2e-5 * theirs.abs().max(1.0),
                "{step} {name}: {ours}, expected {theirs}"
            );
        }
    }

    fn loss<'a>(&self, complexity: &'a dyn Fn(&Architecture) -> (f64, Gradient)) -> StudentLoss<'a> {
        let (gamma1, gamma2) = (self.setting("complexity_coeff"), self.setting("teacher_coeff"));
        StudentLoss {
            gamma1,
            gamma2,
            hints: Hints::Local,
            complexity,
            budget: None,
        }
    }

    fn check_gradients(&self, prefix: &str, network: &Network, found: &Gradients, tolerance: f64) {
        for (index, variable) in network
            .variables
            .iter()
            .enumerate()
            .filter(|(_, v)| v.role == Role::Trained)
        {
            let gradient = found.tensors[index]
                .as_ref()
                .unwrap_or_else(|| panic!("no gradient on {}", variable.name));
            self.check(
                &format!("{prefix}.{}", theirs(&variable.name)),
                gradient,
                tolerance,
            );
        }
        for (index, (layer, gradient)) in network
            .architecture
            .layers
            .iter()
            .zip(&found.attention)
            .enumerate()
        {
            let on_scores = Tensor::from_slice(&layer.score_gradient(gradient));
            self.check(
                &format!("{prefix}.layers.{index}.alphas_params"),
                &on_scores,
                tolerance,
            );
        }
    }
}

/// The reference's own complexity (README of the golden files): no mode of the product.
fn reference_complexity(costs: &[Vec<f64>]) -> impl Fn(&Architecture) -> (f64, Gradient) + '_ {
    |architecture| {
        let attention = architecture.attention();
        let last = attention.len();
        let source = |i: usize, j: usize| if j <= 1 { i } else { i + 1 - j };
        // I_(i-1) and O_(i+1), with I_(-1) = 1 and O_L = 1.
        let input = |layer: usize| -> f64 {
            if layer == 0 {
                1.0
            } else {
                attention[layer - 1].iter().map(|a| 1.0 - a).product()
            }
        };
        let readers = |node: usize| -> Vec<(usize, usize)> {
            let places = (0..last).flat_map(|i| (0..attention[i].len()).map(move |j| (i, j)));
            places.filter(|(i, j)| source(*i, *j) == node).collect()
        };
        let output = |node: usize| -> f64 {
            if node == last {
                1.0
            } else {
                readers(node)
                    .iter()
                    .map(|(i, j)| 1.0 - attention[*i][*j])
                    .product()
            }
        };
        let mut value = 0.0;
        let mut gradient: Gradient = costs.iter().map(|layer| vec![0.0; layer.len()]).collect();
        for (i, layer) in costs.iter().enumerate() {
            for (j, cost) in layer.iter().enumerate() {
                value += cost * (attention[i][j] - input(i) - output(i + 1));
                gradient[i][j] += cost;
                if i > 0 {
                    for (other, slot) in gradient[i - 1].iter_mut().enumerate() {
                        let rest = attention[i - 1].iter().enumerate().filter(|(n, _)| *n != other);
                        *slot += cost * rest.map(|(_, a)| 1.0 - a).product::<f64>();
                    }
                }
                for other in if i + 1 == last { Vec::new() } else { readers(i + 1) } {
                    let rest = readers(i + 1).into_iter().filter(|place| *place != other);
                    gradient[other.0][other.1] +=
                        cost * rest.map(|(i, j)| 1.0 - attention[i][j]).product::<f64>();
                }
            }
        }
        (value, gradient)
    }
}

fn run(file: &str) {
    let (case, student, teacher) = Case::load(file);
    let costs = case.costs.clone();
    let complexity = reference_complexity(&costs);
    let loss = case.loss(&complexity);

    let evaluated = tch::no_grad(|| student.forward(&case.images, Mode::EVALUATE)).unwrap();
    case.check("eval.logits", &evaluated.logits, 1e-4);
    for (index, node) in evaluated.nodes[1..].iter().enumerate() {
        case.check(&format!("eval.ends.{index}"), node.as_ref().unwrap(), 1e-4);
    }
    let taught = tch::no_grad(|| teacher.forward(&case.images, Mode::EVALUATE)).unwrap();
    case.check("teacher.logits", &taught.logits, 1e-4);
    for (index, node) in taught.nodes[1..].iter().enumerate() {
        case.check(&format!("teacher.ends.{index}"), node.as_ref().unwrap(), 1e-4);
    }

    let (losses, found) = gradients(
        &student,
        &case.images,
        &case.labels,
        Some(&taught),
        &loss,
        Mode::EVALUATE,
    )
    .unwrap();
    case.check_losses("evalgrad", losses);
    case.check_gradients("evalgrad", &student, &found, 1e-4);

    // A momentum of 0 leaves the running statistics alone.
    let still = Mode::batch(0.0);
    let trained = tch::no_grad(|| student.forward(&case.images, still)).unwrap();
    case.check("train.logits", &trained.logits, 1e-4);
    for (index, node) in trained.nodes[1..].iter().enumerate() {
        case.check(&format!("train.ends.{index}"), node.as_ref().unwrap(), 1e-4);
    }
    let (losses, found) =
        gradients(&student, &case.images, &case.labels, Some(&taught), &loss, still).unwrap();
    case.check_losses("step1", losses);
    case.check_gradients("grad", &student, &found, 1e-4);
    steps(&case, student, teacher, &complexity);
}

fn steps(
    case: &Case,
    student: Network,
    teacher: Network,
    complexity: &dyn Fn(&Architecture) -> (f64, Gradient),
) {
    let twice = Statistics::Batch { momentum: TWICE };
    let settings = LearnerSettings {
        loss: case.loss(complexity),
        gamma1_ramp: 0.0,
        score_rate: 1.0,
        sgd: SgdSettings {
            momentum: case.setting("momentum"),
            weight_decay: case.setting("weight_decay"),
        },
        mode: Mode {
            universal: twice,
            task: twice,
        },
    };
    let gang = Solo::new();
    let mut learner = StudentLearner::new(student, Some(teacher), settings, &gang);
    for step in 1..=3 {
        let stem = |part: &str| {
            learner
                .network()
                .variables
                .named(&format!("bn1.{part}"))
                .unwrap()
                .tensor
                .copy()
        };
        let before = [stem("running_mean"), stem("running_var")];
        let at = Moment {
            learning_rate: case.setting("lr"),
            progress: 0.0,
        };
        let losses = learner.step(&case.images, &case.labels, at).unwrap();
        case.check_losses(&format!("step{step}"), losses);
        // The stem runs once in the reference too.
        for (part, before) in ["running_mean", "running_var"].iter().zip(before) {
            let mut tensor = learner
                .network()
                .variables
                .named(&format!("bn1.{part}"))
                .unwrap()
                .tensor
                .shallow_clone();
            let moved = &before + (&tensor - &before) * (0.1 / TWICE);
            tensor.copy_(&moved);
        }
        let tolerance = match step {
            1 => 1e-4,
            3 => 1e-3,
            _ => continue,
        };
        let network = learner.network();
        for variable in network
            .variables
            .iter()
            .filter(|variable| variable.role != Role::Frozen)
        {
            case.check(
                &format!("step{step}.{}", theirs(&variable.name)),
                &variable.tensor,
                tolerance,
            );
        }
        for (index, layer) in network.architecture.layers.iter().enumerate() {
            let scores: Vec<f32> = layer.blocks.iter().map(|block| block.score).collect();
            case.check(
                &format!("step{step}.layers.{index}.alphas_params"),
                &Tensor::from_slice(&scores),
                tolerance,
            );
        }
    }
    let evaluated = tch::no_grad(|| learner.network().forward(&case.images, Mode::EVALUATE)).unwrap();
    case.check("final_eval.logits", &evaluated.logits, 1e-3);
}

#[test]
fn three_steps_of_the_whole_student() {
    run("case_resnet18_skip3_b4_64.json");
}

#[test]
fn three_steps_of_a_pruned_student() {
    run("case_resnet18_skip3_b4_64_pruned.json");
}
