//! Backbones as data: a stem, a chain of universal blocks, a head.
//!
//! Every convolution carries its publisher's parameter names, so a weights file needs no renaming. Shapes, costs and
//! the trainer's modules are all derived from the same description; there is no second place to keep in step.

mod catalogue;
mod cost;
mod shape;
mod tensors;

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

pub use cost::ProxyShape;
pub use shape::NodeShape;
pub use tensors::TensorSpec;

/// The backbones that can be tailored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum BackboneName {
    /// EfficientNet-Lite0: 16 MBConv blocks, ReLU6, no squeeze-and-excite.
    Lite0,
    /// ResNet-18: 8 basic blocks.
    Resnet18,
    /// ResNet-34: 16 basic blocks.
    Resnet34,
    /// ResNet-50: 16 bottleneck blocks, stride on the 3x3.
    Resnet50,
    /// Wide ResNet-26 of the Visual Decathlon: 12 wide basic blocks, for 64-pixel inputs.
    Wrn26,
}

impl BackboneName {
    /// All of them, in the order people read them.
    pub const ALL: [BackboneName; 5] = [
        Self::Lite0,
        Self::Resnet18,
        Self::Resnet34,
        Self::Resnet50,
        Self::Wrn26,
    ];

    /// The name as written in task files.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Lite0 => "lite0",
            Self::Resnet18 => "resnet18",
            Self::Resnet34 => "resnet34",
            Self::Resnet50 => "resnet50",
            Self::Wrn26 => "wrn26",
        }
    }

    /// The description of this backbone.
    pub fn describe(self) -> Backbone {
        catalogue::describe(self)
    }

    /// How many layers its description has. Plans of jobs ask for nothing else of it, so it is counted once.
    pub fn layers(self) -> usize {
        static COUNTED: [OnceLock<usize>; BackboneName::ALL.len()] =
            [const { OnceLock::new() }; BackboneName::ALL.len()];
        *COUNTED[self as usize].get_or_init(|| self.describe().layers())
    }
}

impl std::fmt::Display for BackboneName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for BackboneName {
    type Err = crate::ids::InvalidId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| crate::ids::InvalidId {
                kind: "backbone",
                text: text.to_owned(),
                expected: "lite0, resnet18, resnet34, resnet50 or wrn26",
            })
    }
}

/// Element-wise non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// None.
    Identity,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
}

/// How a convolution pads its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// The same number of zeros on every side.
    Symmetric(u32),
    /// TensorFlow's SAME: output = ceil(input / stride), the odd zero at the end.
    Same,
}

/// A convolution without bias, batch norm, activation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConvBn {
    /// Publisher's name of the convolution; its tensor is `<conv>.weight`, shape `[out, in / groups, k, k]`.
    pub conv: String,
    /// Publisher's name of the batch norm; `<bn>.weight|bias|running_mean|running_var`, shape `[out]`.
    pub bn: String,
    /// Input channels.
    pub in_channels: u32,
    /// Output channels.
    pub out_channels: u32,
    /// Kernel side.
    pub kernel: u32,
    /// Stride of both sides.
    pub stride: u32,
    /// 1, or `in_channels` for a depthwise convolution.
    pub groups: u32,
    /// Zero padding.
    pub padding: Padding,
    /// Applied after the batch norm.
    pub activation: Activation,
}

/// What is added to a block's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shortcut {
    /// Nothing: the body is the block.
    None,
    /// The input as it is.
    Identity,
    /// A strided 1x1 convolution with batch norm.
    Projection(ConvBn),
    /// 2x2 average pooling where the block has stride 2, zero channels appended up to `out_channels`.
    PoolPad,
}

/// A universal block G_l: node l-1 -> node l. The node applies the backbone's activation once more, to the merged blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Channels of node l-1.
    pub in_channels: u32,
    /// Channels of node l.
    pub out_channels: u32,
    /// Product of the body's strides.
    pub stride: u32,
    /// Run one after another.
    pub body: Vec<ConvBn>,
    /// Added to the body's output.
    pub shortcut: Shortcut,
    /// Applied to that sum: none, but for wide basic blocks, which end in a ReLU of their own.
    pub activation: Activation,
}

/// The form of the task-specific skip layers A(s->l).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyForm {
    /// [max pool] conv1x1, BN.
    Conv,
    /// [max pool] conv1x1 to `max(out / 32, 16)` channels, BN, ReLU, conv1x1, BN.
    Bottleneck,
}

/// Statistics with which inputs are normalised: `(pixel / 255 - mean) / std` per channel (red, green, blue).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Normalisation {
    /// Mean per channel, of pixels in 0..1.
    pub mean: [f32; 3],
    /// Standard deviation per channel, of pixels in 0..1.
    pub std: [f32; 3],
}

/// A pre-trained network in the form the method needs. Layer l of the method is `blocks[l - 1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Backbone {
    /// Which one.
    pub name: BackboneName,
    /// Input -> node 0, before [`Self::stem_pool`].
    pub stem: ConvBn,
    /// Whether 3x3 stride-2 max pooling (padding 1) follows the stem's convolution.
    pub stem_pool: bool,
    /// The universal blocks.
    pub blocks: Vec<Block>,
    /// Universal convolution after the last node (lite0), always there.
    pub head: Option<ConvBn>,
    /// Whether a task-specific batch norm stands before the global average pooling (wrn26).
    pub end_bn: bool,
    /// Activation of the nodes.
    pub node_activation: Activation,
    /// Form of the proxies.
    pub proxy_form: ProxyForm,
    /// Epsilon of every batch norm.
    pub bn_eps: f64,
    /// Publisher's name of the classifier that a task replaces.
    pub classifier: &'static str,
    /// Input normalisation the weights were trained with.
    pub normalisation: Normalisation,
}

impl Backbone {
    /// Number of layers, L.
    pub fn layers(&self) -> usize {
        self.blocks.len()
    }

    /// Channels of node `l`, 0..=L.
    pub fn node_channels(&self, node: usize) -> u32 {
        if node == 0 {
            self.stem.out_channels
        } else {
            self.blocks[node - 1].out_channels
        }
    }

    /// Width of the features that the classifier sees.
    pub fn features(&self) -> u32 {
        self.head
            .as_ref()
            .map_or(self.node_channels(self.layers()), |head| head.out_channels)
    }
}
