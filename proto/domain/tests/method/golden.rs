//! The `struct_*` parity files: structure, costs, complexity and pruning as the published implementation computes them.

use std::path::{Path, PathBuf};

use nettailor_domain::architecture::{Architecture, BlockCosts, Fate};
use nettailor_domain::backbone::{Backbone, BackboneName};
use nettailor_domain::units::Cost;
use serde::Deserialize;

/// Classes of every parity file.
pub(crate) const CLASSES: u32 = 10;

/// One backbone of the parity files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject {
    pub(crate) name: BackboneName,
    pub(crate) input: u32,
    file: &'static str,
}

pub(crate) const SUBJECTS: [Subject; 4] = [
    Subject {
        name: BackboneName::Resnet18,
        input: 224,
        file: "resnet18",
    },
    Subject {
        name: BackboneName::Resnet34,
        input: 224,
        file: "resnet34",
    },
    Subject {
        name: BackboneName::Resnet50,
        input: 224,
        file: "resnet50",
    },
    Subject {
        name: BackboneName::Wrn26,
        input: 64,
        file: "wide_resnet26",
    },
];

impl Subject {
    pub(crate) fn backbone(&self) -> Backbone {
        self.name.describe()
    }

    pub(crate) fn golden(&self) -> Golden {
        let path = folder().join(format!("struct_{}_skip3.json", self.file));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// The stem's FLOPs as the paper counts them: a ResNet's after pooling, the wide network's as a 7x7 convolution.
    pub(crate) fn paper_stem_flops(&self) -> u64 {
        let backbone = self.backbone();
        let stem = &backbone.stem;
        let kernel = if self.name == BackboneName::Wrn26 {
            7
        } else {
            stem.kernel
        };
        let weights = u64::from(stem.in_channels * stem.out_channels * kernel * kernel);
        backbone.node_shapes(self.input)[0].positions() * (weights + 2 * u64::from(stem.out_channels))
    }

    pub(crate) fn mains(&self) -> Cost {
        self.backbone().main_costs(self.input).into_iter().sum()
    }

    /// Stem and mains, with the paper's stem.
    pub(crate) fn paper_flops(&self) -> u64 {
        self.paper_stem_flops() + self.mains().flops
    }

    /// Our FLOPs costs, normalised with the paper's stem instead of the true one.
    pub(crate) fn paper_costs(&self, architecture: &Architecture) -> BlockCosts {
        let backbone = self.backbone();
        let BlockCosts(mut layers) =
            BlockCosts::counted(architecture, &backbone, self.input, |cost| cost.flops as f64);
        let scale = backbone.cost(self.input).flops as f64 / self.paper_flops() as f64;
        layers.iter_mut().flatten().for_each(|cost| *cost *= scale);
        BlockCosts(layers)
    }

    /// A student with these scores, of which `keep` is left (1 kept, 0 removed; everything without).
    pub(crate) fn student(&self, scores: &[Vec<f64>], keep: Option<&[Vec<u8>]>) -> Architecture {
        let mut student = Architecture::new(&self.backbone(), 3);
        for (l, layer) in student.layers.iter_mut().enumerate() {
            assert_eq!(layer.blocks.len(), scores[l].len(), "{self:?} layer {}", l + 1);
            for (b, block) in layer.blocks.iter_mut().enumerate() {
                block.score = scores[l][b] as f32;
                if keep.is_some_and(|keep| keep[l][b] == 0) {
                    block.fate = Fate::RemovedByRank;
                }
            }
        }
        student
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

#[derive(Deserialize)]
pub(crate) struct Golden {
    pub(crate) max_skip: usize,
    pub(crate) num_classes: u32,
    pub(crate) num_layers: Vec<usize>,
    pub(crate) stem_flops: f64,
    pub(crate) classifier_flops: f64,
    pub(crate) norm_flops: f64,
    pub(crate) total_flops_all_kept: f64,
    pub(crate) num_parameters_real: u64,
    pub(crate) num_trainable_real: u64,
    pub(crate) layers: Vec<GoldenLayer>,
    pub(crate) unpruned: Stats,
    pub(crate) initial_alphas_params: Vec<Vec<f64>>,
    pub(crate) initial_alphas: Vec<Vec<f64>>,
    pub(crate) complexity_cases: Vec<ComplexityCase>,
    pub(crate) threshold_cases: Vec<ThresholdCase>,
    pub(crate) threshold_twice: ThresholdTwice,
    pub(crate) alphas_params_sets: std::collections::HashMap<String, Vec<Vec<f64>>>,
}

#[derive(Deserialize)]
pub(crate) struct GoldenLayer {
    pub(crate) main: GoldenMain,
    pub(crate) proxies: Vec<GoldenProxy>,
}

#[derive(Deserialize)]
pub(crate) struct GoldenMain {
    pub(crate) in_channels: u32,
    /// Channels inside; a bottleneck's output has four times as many.
    pub(crate) planes: u32,
    pub(crate) has_conv_res: bool,
    pub(crate) out_channels: u32,
    pub(crate) stride: u32,
    pub(crate) flops: f64,
    pub(crate) params: f64,
}

#[derive(Deserialize)]
pub(crate) struct GoldenProxy {
    pub(crate) in_channels: u32,
    pub(crate) out_channels: u32,
    pub(crate) stride: u32,
    pub(crate) source_shape: [u32; 3],
    pub(crate) flops: f64,
    pub(crate) params: f64,
}

/// Parameters per part (stem, then mains; proxies by layer), in numbers, and the totals.
#[derive(Deserialize)]
pub(crate) struct Stats {
    pub(crate) global_params: Vec<f64>,
    pub(crate) task_params: Vec<Vec<f64>>,
    #[serde(rename = "stats_global_params_M")]
    pub(crate) global_m: f64,
    #[serde(rename = "stats_task_params_M")]
    pub(crate) task_m: f64,
    #[serde(rename = "stats_total_params_M")]
    pub(crate) total_m: f64,
    #[serde(rename = "stats_total_GFLOPS")]
    pub(crate) total_g: f64,
}

/// On the scores, by layer; `None` where no gradient flows (a layer, or a whole network, without blocks).
pub(crate) type GoldenGradient = Option<Vec<Option<Vec<f64>>>>;

#[derive(Deserialize)]
pub(crate) struct ComplexityCase {
    pub(crate) name: String,
    pub(crate) alphas_params: Vec<Vec<f64>>,
    pub(crate) keep: Vec<Vec<u8>>,
    pub(crate) alphas: Vec<Vec<f64>>,
    pub(crate) value_f32: f64,
    pub(crate) value_f64: f64,
    pub(crate) grad_f32: GoldenGradient,
    pub(crate) grad_f64: GoldenGradient,
    /// Where blocks were removed.
    #[serde(flatten)]
    pub(crate) stats: Option<Stats>,
    #[serde(flatten)]
    pub(crate) liveness: Liveness,
}

/// What the pruned network passes on.
#[derive(Deserialize)]
pub(crate) struct Liveness {
    /// Layers, from 0, that pass nothing on; absent where nothing was removed or the network fails.
    #[serde(default)]
    pub(crate) none_outputs: Option<Vec<usize>>,
    /// Set where the published implementation fails on the pruned network.
    #[serde(default)]
    pub(crate) raises: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct ThresholdCase {
    pub(crate) alphas_params_set: String,
    pub(crate) settings: Settings,
    pub(crate) alphas_before: Vec<Vec<f64>>,
    pub(crate) alphas_after: Vec<Vec<f64>>,
    pub(crate) complexity_f32: f64,
    pub(crate) complexity_f64: f64,
    pub(crate) grad_f32: GoldenGradient,
    pub(crate) grad_f64: GoldenGradient,
    pub(crate) keep: Vec<Vec<u8>>,
    #[serde(flatten)]
    pub(crate) stats: Stats,
    #[serde(flatten)]
    pub(crate) liveness: Liveness,
}

/// One network pruned, then pruned again.
#[derive(Deserialize)]
pub(crate) struct ThresholdTwice {
    pub(crate) alphas_params_set: String,
    pub(crate) first: Settings,
    pub(crate) keep_after_first: Vec<Vec<u8>>,
    pub(crate) alphas_after_first: Vec<Vec<f64>>,
    pub(crate) second: Settings,
    pub(crate) keep_after_second: Vec<Vec<u8>>,
}

/// How the published implementation was asked to prune. Ours knows the first two.
#[derive(Deserialize)]
pub(crate) struct Settings {
    pub(crate) num_global: Option<usize>,
    pub(crate) thr_proxies: Option<f64>,
    #[serde(flatten)]
    pub(crate) others: serde_json::Map<String, serde_json::Value>,
}

/// Asserts that two numbers agree to `tolerance`, relative to the larger one (absolute below 1).
#[track_caller]
pub(crate) fn assert_close(ours: f64, theirs: f64, tolerance: f64, what: &str) {
    let scale = ours.abs().max(theirs.abs()).max(1.0);
    assert!(
        (ours - theirs).abs() <= tolerance * scale,
        "{what}: ours {ours}, expected {theirs}"
    );
}

/// [`assert_close`] for values by layer and block.
#[track_caller]
pub(crate) fn assert_all_close(ours: &[Vec<f64>], theirs: &[Vec<f64>], tolerance: f64, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}: layers");
    for (l, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert_eq!(ours.len(), theirs.len(), "{what}: blocks of layer {}", l + 1);
        for (b, (o, t)) in ours.iter().zip(theirs).enumerate() {
            assert_close(*o, *t, tolerance, &format!("{what}, layer {}, block {b}", l + 1));
        }
    }
}

/// Keys that no test reads would be numbers silently skipped.
#[test]
fn every_key_of_every_file_is_read() {
    use serde_json::Value;
    let assert_keys = |value: &Value, known: &[&str], all: bool| {
        let keys: Vec<&String> = value.as_object().expect("an object").keys().collect();
        let unknown: Vec<_> = keys.iter().filter(|key| !known.contains(&key.as_str())).collect();
        assert!(unknown.is_empty(), "read by no test: {unknown:?}");
        assert!(
            !all || keys.len() == known.len(),
            "expected {known:?}, found {keys:?}"
        );
    };
    let stats = [
        "global_params",
        "task_params",
        "stats_global_params_M",
        "stats_task_params_M",
        "stats_total_params_M",
        "stats_total_GFLOPS",
    ];
    let liveness = ["none_outputs", "raises"];
    let top = [
        // Words.
        ["backbone", "flops_unit"].as_slice(),
        // Compared with the trainer's networks, in its parity tests.
        &[
            "state_dict_shapes",
            "trainable",
            "optimizer_groups",
            "trainable_not_in_any_group",
        ],
        // Compared here.
        &[
            "max_skip",
            "num_classes",
            "num_layers",
            "stem_flops",
            "classifier_flops",
            "norm_flops",
        ],
        &[
            "layers",
            "total_flops_all_kept",
            "num_parameters_real",
            "num_trainable_real",
            "unpruned",
        ],
        &["initial_alphas_params", "initial_alphas", "alphas_params_sets"],
        &["complexity_cases", "threshold_cases", "threshold_twice"],
    ];
    for subject in SUBJECTS {
        let path = folder().join(format!("struct_{}_skip3.json", subject.file));
        let file: Value = serde_json::from_slice(&std::fs::read(path).expect("read")).expect("JSON");
        assert_keys(&file, &top.concat(), true);
        assert_keys(&file["unpruned"], &stats, true);
        for layer in file["layers"].as_array().expect("layers") {
            assert_keys(layer, &["main", "proxies"], true);
            let main = [
                "in_channels",
                "planes",
                "out_channels",
                "stride",
                "has_conv_res",
                "flops",
                "params",
            ];
            assert_keys(&layer["main"], &main, true);
            for proxy in layer["proxies"].as_array().expect("proxies") {
                let keys = [
                    "in_channels",
                    "out_channels",
                    "stride",
                    "source_shape",
                    "flops",
                    "params",
                ];
                assert_keys(proxy, &keys, true);
            }
        }
        for case in file["complexity_cases"].as_array().expect("cases") {
            let own = [
                "name",
                "alphas_params",
                "keep",
                "alphas",
                "value_f32",
                "value_f64",
                "grad_f32",
                "grad_f64",
            ];
            assert_keys(case, &[own.as_slice(), &stats, &liveness].concat(), false);
        }
        for case in file["threshold_cases"].as_array().expect("cases") {
            let own = [
                "alphas_params_set",
                "settings",
                "alphas_before",
                "alphas_after",
                "keep",
            ];
            let values = ["complexity_f32", "complexity_f64", "grad_f32", "grad_f64"];
            assert_keys(
                case,
                &[own.as_slice(), &values, &stats, &liveness].concat(),
                false,
            );
        }
        let twice = [
            "first",
            "keep_after_first",
            "alphas_after_first",
            "second",
            "keep_after_second",
        ];
        assert_keys(
            &file["threshold_twice"],
            &[["alphas_params_set"].as_slice(), &twice].concat(),
            true,
        );
    }
}
