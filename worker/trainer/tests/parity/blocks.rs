//! Ten single layers, whole and with parts missing.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use nettailor_domain::architecture::{Architecture, Fate};
use nettailor_domain::backbone::{
    Activation, Backbone, BackboneName, Block, ConvBn, Normalisation, Padding, ProxyForm, Shortcut,
};
use nettailor_domain::task::BnMode;
use nettailor_domain::units::Cost;
use nettailor_trainer::device::Layout;
use nettailor_trainer::model::block::pool;
use nettailor_trainer::model::network::Recipe;
use nettailor_trainer::model::{Mode, Network, Origin, Role};
use nettailor_trainer::weights::Weights;
use safetensors::SafeTensors;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::hash_init;
use crate::reference::{assert_near, json, numbers, path};

const BATCH: i64 = 3;

fn unit(name: &str, channels: (u32, u32), kernel: u32, stride: u32, activation: Activation) -> ConvBn {
    ConvBn {
        conv: format!("main.conv{name}"),
        bn: format!("main.bn{name}"),
        in_channels: channels.0,
        out_channels: channels.1,
        kernel,
        stride,
        groups: 1,
        padding: Padding::Symmetric(kernel / 2),
        activation,
    }
}

/// The block under test, under the reference's names.
fn block(kind: &str, c_in: u32, planes: u32, stride: u32) -> Block {
    use Activation::{Identity, Relu};
    let (out_channels, body) = match kind {
        "basic" | "wide" => {
            let first = unit("1", (c_in, planes), 3, stride, Relu);
            (planes, vec![first, unit("2", (planes, planes), 3, 1, Identity)])
        }
        "bottleneck" => {
            let out = 4 * planes;
            let middle = unit("2", (planes, planes), 3, stride, Relu);
            (
                out,
                vec![
                    unit("1", (c_in, planes), 1, 1, Relu),
                    middle,
                    unit("3", (planes, out), 1, 1, Identity),
                ],
            )
        }
        other => panic!("no block {other}"),
    };
    // Wide blocks end in a ReLU of their own.
    let activation = if kind == "wide" { Relu } else { Identity };
    let shortcut = match kind {
        _ if stride == 1 && c_in == out_channels => Shortcut::Identity,
        "wide" => Shortcut::PoolPad,
        _ => Shortcut::Projection(unit("_res", (c_in, out_channels), 1, stride, Identity)),
    };
    Block {
        in_channels: c_in,
        out_channels,
        stride,
        body,
        shortcut,
        activation,
    }
}

/// A backbone whose last layer is the block, and whose nodes before it have the shapes of the layer's sources.
fn backbone(entry: &Value) -> (Backbone, u32) {
    let number = |v: &Value| v.as_u64().unwrap() as u32;
    // Nearest source first in the file.
    let mut shapes: Vec<[u32; 3]> = entry["skip_shapes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|shape| {
            let [c, h, w] = [0, 1, 2].map(|i| number(&shape[i]));
            [c, h, w]
        })
        .collect();
    shapes.reverse();
    let bridge = |from: [u32; 3], to: [u32; 3], name: String| ConvBn {
        conv: format!("bridge.{name}.conv"),
        bn: format!("bridge.{name}.bn"),
        padding: Padding::Symmetric(0),
        ..unit("", (from[0], to[0]), 1, from[1] / to[1], Activation::Identity)
    };
    let input = [3, shapes[0][1], shapes[0][2]];
    let mut blocks: Vec<Block> = shapes
        .windows(2)
        .enumerate()
        .map(|(index, pair)| Block {
            in_channels: pair[0][0],
            out_channels: pair[1][0],
            stride: pair[0][1] / pair[1][1],
            body: vec![bridge(pair[0], pair[1], index.to_string())],
            shortcut: Shortcut::None,
            activation: Activation::Identity,
        })
        .collect();
    let kind = entry["kind"].as_str().unwrap();
    blocks.push(block(
        kind,
        shapes[shapes.len() - 1][0],
        number(&entry["planes"]),
        number(&entry["stride"]),
    ));
    let backbone = Backbone {
        name: BackboneName::Resnet18,
        stem: bridge(input, shapes[0], "stem".to_owned()),
        stem_pool: false,
        blocks,
        head: None,
        end_bn: false,
        node_activation: Activation::Relu,
        proxy_form: if kind == "bottleneck" {
            ProxyForm::Bottleneck
        } else {
            ProxyForm::Conv
        },
        bn_eps: 1e-5,
        classifier: "fc",
        normalisation: Normalisation {
            mean: [0.0; 3],
            std: [1.0; 3],
        },
    };
    (backbone, input[1])
}

/// Our name of a proxy's tensor to the reference's; the others are equal.
fn theirs(ours: &str, layer: usize) -> String {
    let Some(rest) = ours.strip_prefix("proxies.") else {
        return ours.to_owned();
    };
    let [_, source, rest]: [&str; 3] = rest.splitn(3, '.').collect::<Vec<_>>().try_into().unwrap();
    format!("proxies.{}.{rest}", layer - 1 - source.parse::<usize>().unwrap())
}

/// Every tensor of the network: ours that the reference has by its rule, the scaffolding as zeros.
fn weights(block_name: &str, backbone: &Backbone, input: u32) -> Weights {
    let layer = backbone.layers();
    let mut tensors = HashMap::new();
    let mut add = |name: String, shape: &[i64]| {
        let seeded = theirs(&name, layer);
        let value = if name.starts_with("bridge.") || name.starts_with("classifier.") {
            Tensor::zeros(shape, (Kind::Float, Device::Cpu))
        } else {
            hash_init::tensor(&seeded, shape, 3)
        };
        tensors.insert(name, value);
    };
    for spec in backbone.tensors() {
        let shape: Vec<i64> = spec.shape.iter().map(|n| *n as i64).collect();
        add(spec.name, &shape);
    }
    for source in 0..layer {
        let shape = backbone.proxy(source, layer, input);
        let [c_in, middle, c_out] = [
            shape.source.channels,
            shape.bottleneck_width(),
            shape.target.channels,
        ]
        .map(i64::from);
        let steps = match shape.form {
            ProxyForm::Conv => vec![("", c_in, c_out)],
            ProxyForm::Bottleneck => vec![("1", c_in, middle), ("2", middle, c_out)],
        };
        for (suffix, c_in, c_out) in steps {
            add(
                format!("proxies.{layer}.{source}.conv{suffix}.weight"),
                &[c_out, c_in, 1, 1],
            );
            for part in ["weight", "bias", "running_mean", "running_var"] {
                add(format!("proxies.{layer}.{source}.bn{suffix}.{part}"), &[c_out]);
            }
        }
    }
    add(
        "classifier.weight".to_owned(),
        &[2, i64::from(backbone.features())],
    );
    add("classifier.bias".to_owned(), &[2]);
    Weights::from_tensors(tensors, block_name)
}

/// Only the last layer's blocks count; those before it are scaffolding.
fn architecture(entry: &Value, backbone: &Backbone) -> Architecture {
    let mut architecture = Architecture::new(backbone, backbone.layers());
    let (last, before) = architecture.layers.split_last_mut().unwrap();
    for block in before.iter_mut().flat_map(|layer| &mut layer.blocks[1..]) {
        block.fate = Fate::RemovedByRank;
    }
    let scores = hash_init::tensor("alphas_params", &[last.blocks.len() as i64], 3);
    let scores: Vec<f32> = Vec::try_from(scores).unwrap();
    let keep = numbers(&entry["keep"]);
    for ((block, score), keep) in last.blocks.iter_mut().zip(scores).zip(keep) {
        block.score = score;
        if keep == 0.0 {
            block.fate = Fate::RemovedByRank;
        }
    }
    architecture
}

/// Costs and strides of the block and its proxies, main first, then the nearest source outwards.
fn check_costs(name: &str, entry: &Value, backbone: &Backbone, input: u32) {
    let layer = backbone.layers();
    let main = backbone.main_costs(input)[layer - 1];
    let proxies: Vec<_> = (0..layer)
        .rev()
        .map(|source| backbone.proxy(source, layer, input))
        .collect();
    let costs: Vec<_> = std::iter::once(main)
        .chain(proxies.iter().map(|proxy| proxy.cost()))
        .collect();
    let column = |of: fn(&Cost) -> u64| costs.iter().map(|cost| of(cost) as f64).collect::<Vec<_>>();
    assert_eq!(
        column(|cost| cost.flops),
        numbers(&entry["flops"]),
        "{name}: FLOPs"
    );
    assert_eq!(
        column(|cost| cost.params),
        numbers(&entry["params"]),
        "{name}: parameters"
    );
    let strides: Vec<_> = proxies
        .iter()
        .map(|proxy| f64::from(proxy.source.side / proxy.target.side))
        .collect();
    assert_eq!(strides, numbers(&entry["proxy_strides"]), "{name}: strides");
}

/// Compares one variant in one mode; ticks off in `compared` what it read of the file.
fn check(
    name: &str,
    entry: &Value,
    file: &SafeTensors<'_>,
    mode_name: &str,
    compared: &RefCell<BTreeSet<String>>,
) {
    let (block_name, _) = name.split_once('.').unwrap();
    let (backbone, input) = backbone(entry);
    let layers = backbone.layers();
    check_costs(name, entry, &backbone, input);
    let layout = Layout::on(Device::Cpu);
    let recipe = Recipe {
        universal: Role::Frozen,
        bn_mode: BnMode::Task,
        origin: Origin::Stored,
        classes: 2,
        input,
        layout,
    };
    let plan = architecture(entry, &backbone);
    let weights = weights(block_name, &backbone, input);
    let network = Network::with_backbone(backbone, plan, &weights, recipe).unwrap();

    let expected = |key: &str| {
        let key = format!("{name}.{mode_name}.{key}");
        let view = file.tensor(&key).ok()?;
        compared.borrow_mut().insert(key);
        let shape: Vec<i64> = view.shape().iter().map(|n| *n as i64).collect();
        Some(Tensor::f_from_data_size(view.data(), &shape, Kind::Float).unwrap())
    };
    let mode = if mode_name == "train" {
        Mode::TRAIN
    } else {
        Mode::EVALUATE
    };
    let layer = &network.layers[layers - 1];
    let absent: Vec<usize> = numbers(&entry["none_inputs"])
        .iter()
        .map(|n| *n as usize)
        .collect();
    let sources: Vec<Option<Tensor>> = entry["skip_shapes"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
        .map(|(index, shape)| {
            let mut size = vec![BATCH];
            size.extend(numbers(shape).iter().map(|n| *n as i64));
            let unit = hash_init::uniform(&format!("{block_name}.ends.{index}"), &size, 4, 0.0, 1.0);
            let end = layout
                .ordered(&(unit * 1.5 + 0.2).relu())
                .unwrap()
                .set_requires_grad(true);
            (!absent.contains(&index)).then_some(end)
        })
        .collect();

    let main = layer
        .main
        .as_ref()
        .zip(sources[0].as_ref())
        .map(|(block, x)| block.forward(x, mode).unwrap());
    // Source s is input l - 1 - s.
    let pooled: Vec<Option<Tensor>> = layer
        .skips
        .iter()
        .map(|skip| {
            sources[layers - 1 - skip.source]
                .as_ref()
                .map(|x| pool(x, skip.proxy.side).unwrap())
        })
        .collect();
    let attention = network.attention(true).unwrap().remove(layers - 1);
    let out = layer
        .combine(main.as_ref(), &pooled, attention.as_ref(), mode)
        .unwrap();
    if entry["result"] != "ok" {
        assert!(out.is_none(), "{name}: expected nothing to pass");
        return;
    }
    let out = out.unwrap();
    assert_near(
        &format!("{name}.{mode_name}.out"),
        &out,
        &expected("out").unwrap(),
        1e-5,
    );

    let gout = hash_init::uniform(&format!("{block_name}.gout"), &out.size(), 4, 0.0, 1.0);
    let trained: Vec<_> = network.variables.trained(layer.own.clone());
    let mut inputs: Vec<(String, Tensor)> = trained
        .iter()
        .map(|index| {
            let variable = network.variables.get(*index);
            (
                format!("grad.{}", theirs(&variable.name, layers)),
                variable.tensor.shallow_clone(),
            )
        })
        .collect();
    for (index, source) in sources.iter().enumerate() {
        inputs.extend(
            source
                .as_ref()
                .map(|x| (format!("grad_in.{index}"), x.shallow_clone())),
        );
    }
    if attention.is_none() {
        // A block on its own has attention 1 whatever its score.
        let on_scores = expected("grad.alphas_params").unwrap();
        let zeros = on_scores.zeros_like();
        assert_near(
            &format!("{name}.{mode_name}.grad.alphas_params"),
            &zeros,
            &on_scores,
            1e-6,
        );
    }
    inputs.extend(attention.map(|a| ("attention".to_owned(), a)));
    let tensors: Vec<&Tensor> = inputs.iter().map(|(_, tensor)| tensor).collect();
    let gradients = Tensor::run_backward(&[(&out * gout).sum(Kind::Float)], &tensors, false, false);
    for ((key, _), gradient) in inputs.iter().zip(&gradients) {
        let what = format!("{name}.{mode_name}.{key}");
        if key == "attention" {
            let on_attention: Vec<f64> = Vec::try_from(gradient).unwrap();
            let on_scores = network.architecture.layers[layers - 1].score_gradient(&on_attention);
            let on_scores = Tensor::from_slice(&on_scores);
            assert_near(
                &what,
                &on_scores,
                &expected("grad.alphas_params").unwrap().to_kind(Kind::Double),
                1e-4,
            );
        } else if gradient.defined() {
            // Training-mode batch norm takes two directions out of the gradient: what is left is small against what
            // was there, and roundings weigh more.
            let tolerance = if mode_name == "train" { 5e-4 } else { 1e-4 };
            let expected = expected(key).unwrap_or_else(|| panic!("{what}: not in the file"));
            assert_near(&what, gradient, &expected, tolerance);
        } else {
            assert!(
                expected(key).is_none_or(|e| f64::try_from(e.abs().max()).unwrap() == 0.0),
                "{what}: no gradient"
            );
        }
    }
    if mode_name == "train" {
        let statistics = network
            .variables
            .iter()
            .filter(|variable| variable.role == Role::Statistic);
        for variable in statistics.filter(|variable| !variable.name.starts_with("bridge.")) {
            let key = format!("after.{}", theirs(&variable.name, layers));
            let after = expected(&key).unwrap_or_else(|| panic!("{name}: no {key}"));
            assert_near(&format!("{name} {key}"), &variable.tensor, &after, 1e-5);
        }
        // What was removed is not part of our network; in the reference it is, and stays as it was.
        let after = format!("{name}.train.after.");
        let left: Vec<String> = file
            .names()
            .into_iter()
            .filter_map(|key| key.strip_prefix(&after))
            .map(str::to_owned)
            .collect();
        for key in left {
            if network
                .variables
                .iter()
                .all(|variable| theirs(&variable.name, layers) != key)
            {
                let after = expected(&format!("after.{key}")).unwrap();
                let initial = hash_init::tensor(&key, &after.size(), 3);
                assert_near(&format!("{name} {key}"), &initial, &after, 1e-6);
            }
        }
    }
}

#[test]
fn ten_layers_forward_backward_and_their_statistics() {
    let bytes = std::fs::read(path("blocks.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let entries = json("blocks.json");
    let entries = entries.as_object().unwrap();
    assert_eq!(entries.len(), 40, "ten layers in four variants");
    let compared = RefCell::default();
    for (name, entry) in entries {
        for mode in ["eval", "train"] {
            check(name, entry, &file, mode, &compared);
        }
    }
    let all: BTreeSet<String> = file.names().into_iter().map(|name| name.to_owned()).collect();
    let left: Vec<_> = all.difference(&compared.borrow()).cloned().collect();
    assert!(
        left.is_empty() && !all.is_empty(),
        "{} not compared, as {:?}",
        left.len(),
        left.first()
    );
}
