//! The five backbones. Tables from METHOD section 2; parameter names are torchvision's (ResNets), the publisher's
//! (lite0) and our own (wrn26, which nobody publishes under settled names).

use super::{Activation, Backbone, BackboneName, Block, ConvBn, Normalisation, Padding, ProxyForm, Shortcut};

const IMAGENET: Normalisation = Normalisation {
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
};
/// (x - 127) / 128 on 0..255 pixels.
const LITE: Normalisation = Normalisation {
    mean: [127.0 / 255.0; 3],
    std: [128.0 / 255.0; 3],
};

pub(super) fn describe(name: BackboneName) -> Backbone {
    match name {
        BackboneName::Lite0 => lite0(),
        BackboneName::Resnet18 => resnet(name, &[2, 2, 2, 2], basic, 1),
        BackboneName::Resnet34 => resnet(name, &[3, 4, 6, 3], basic, 1),
        BackboneName::Resnet50 => resnet(name, &[3, 4, 6, 3], bottleneck, 4),
        BackboneName::Wrn26 => wrn26(),
    }
}

/// A convolution with torch-style symmetric padding that keeps the size at stride 1.
fn conv(prefix: &str, conv: &str, bn: &str, channels: (u32, u32), kernel: u32, stride: u32) -> ConvBn {
    ConvBn {
        conv: format!("{prefix}{conv}"),
        bn: format!("{prefix}{bn}"),
        in_channels: channels.0,
        out_channels: channels.1,
        kernel,
        stride,
        groups: 1,
        padding: Padding::Symmetric(kernel / 2),
        activation: Activation::Relu,
    }
}

fn linear(unit: ConvBn) -> ConvBn {
    ConvBn {
        activation: Activation::Identity,
        ..unit
    }
}

fn projection(prefix: &str, channels: (u32, u32), stride: u32) -> Shortcut {
    if stride == 1 && channels.0 == channels.1 {
        return Shortcut::Identity;
    }
    Shortcut::Projection(linear(conv(
        prefix,
        "downsample.0",
        "downsample.1",
        channels,
        1,
        stride,
    )))
}

pub(super) fn basic(prefix: &str, c_in: u32, c: u32, stride: u32) -> Block {
    Block {
        in_channels: c_in,
        out_channels: c,
        stride,
        body: vec![
            conv(prefix, "conv1", "bn1", (c_in, c), 3, stride),
            linear(conv(prefix, "conv2", "bn2", (c, c), 3, 1)),
        ],
        shortcut: projection(prefix, (c_in, c), stride),
        activation: Activation::Identity,
    }
}

pub(super) fn bottleneck(prefix: &str, c_in: u32, c: u32, stride: u32) -> Block {
    Block {
        in_channels: c_in,
        out_channels: 4 * c,
        stride,
        body: vec![
            conv(prefix, "conv1", "bn1", (c_in, c), 1, 1),
            conv(prefix, "conv2", "bn2", (c, c), 3, stride),
            linear(conv(prefix, "conv3", "bn3", (c, 4 * c), 1, 1)),
        ],
        shortcut: projection(prefix, (c_in, 4 * c), stride),
        activation: Activation::Identity,
    }
}

pub(super) fn wide_basic(prefix: &str, c_in: u32, c: u32, stride: u32) -> Block {
    let changes = stride > 1 || c_in != c;
    let shortcut = if changes {
        Shortcut::PoolPad
    } else {
        Shortcut::Identity
    };
    Block {
        shortcut,
        activation: Activation::Relu,
        ..basic(prefix, c_in, c, stride)
    }
}

fn resnet(
    name: BackboneName,
    stages: &[u32; 4],
    block: fn(&str, u32, u32, u32) -> Block,
    widening: u32,
) -> Backbone {
    let mut blocks = Vec::new();
    let mut c_in = 64;
    for (stage, &count) in stages.iter().enumerate() {
        let c = 64 << stage;
        for index in 0..count {
            let stride = if stage > 0 && index == 0 { 2 } else { 1 };
            blocks.push(block(&format!("layer{}.{index}.", stage + 1), c_in, c, stride));
            c_in = widening * c;
        }
    }
    Backbone {
        name,
        stem: conv("", "conv1", "bn1", (3, 64), 7, 2),
        stem_pool: true,
        blocks,
        head: None,
        end_bn: false,
        node_activation: Activation::Relu,
        proxy_form: if widening == 1 {
            ProxyForm::Conv
        } else {
            ProxyForm::Bottleneck
        },
        bn_eps: 1e-5,
        classifier: "fc",
        normalisation: IMAGENET,
    }
}

fn wrn26() -> Backbone {
    let mut blocks = Vec::new();
    let mut c_in = 32;
    for (stage, c) in [64, 128, 256].into_iter().enumerate() {
        for index in 0..4 {
            let stride = if index == 0 { 2 } else { 1 };
            blocks.push(wide_basic(
                &format!("layer{}.{index}.", stage + 1),
                c_in,
                c,
                stride,
            ));
            c_in = c;
        }
    }
    Backbone {
        name: BackboneName::Wrn26,
        stem: conv("", "conv1", "bn1", (3, 32), 3, 1),
        stem_pool: false,
        blocks,
        head: None,
        end_bn: true,
        node_activation: Activation::Relu,
        proxy_form: ProxyForm::Conv,
        bn_eps: 1e-5,
        classifier: "fc",
        normalisation: IMAGENET,
    }
}

/// TensorFlow padding and ReLU6, as EfficientNet-Lite wants them.
fn lite(unit: ConvBn, groups: u32, activation: Activation) -> ConvBn {
    ConvBn {
        padding: Padding::Same,
        groups,
        activation,
        ..unit
    }
}

fn mbconv(prefix: &str, c_in: u32, c: u32, expansion: u32, kernel: u32, stride: u32) -> Block {
    let wide = expansion * c_in;
    let mut body = Vec::new();
    if expansion > 1 {
        body.push(lite(
            conv(prefix, "_expand_conv", "_bn0", (c_in, wide), 1, 1),
            1,
            Activation::Relu6,
        ));
    }
    let depthwise = conv(prefix, "_depthwise_conv", "_bn1", (wide, wide), kernel, stride);
    body.push(lite(depthwise, wide, Activation::Relu6));
    body.push(lite(
        conv(prefix, "_project_conv", "_bn2", (wide, c), 1, 1),
        1,
        Activation::Identity,
    ));
    let identity = stride == 1 && c_in == c;
    let shortcut = if identity {
        Shortcut::Identity
    } else {
        Shortcut::None
    };
    Block {
        in_channels: c_in,
        out_channels: c,
        stride,
        body,
        shortcut,
        activation: Activation::Identity,
    }
}

fn lite0() -> Backbone {
    /// (blocks, channels, expansion, kernel, stride of the first block) per stage.
    const STAGES: [(u32, u32, u32, u32, u32); 7] = [
        (1, 16, 1, 3, 1),
        (2, 24, 6, 3, 2),
        (2, 40, 6, 5, 2),
        (3, 80, 6, 3, 2),
        (3, 112, 6, 5, 1),
        (4, 192, 6, 5, 2),
        (1, 320, 6, 3, 1),
    ];
    let mut blocks = Vec::new();
    let mut c_in = 32;
    for (count, c, expansion, kernel, first_stride) in STAGES {
        for index in 0..count {
            let stride = if index == 0 { first_stride } else { 1 };
            blocks.push(mbconv(
                &format!("_blocks.{}.", blocks.len()),
                c_in,
                c,
                expansion,
                kernel,
                stride,
            ));
            c_in = c;
        }
    }
    Backbone {
        name: BackboneName::Lite0,
        stem: lite(
            conv("", "_conv_stem", "_bn0", (3, 32), 3, 2),
            1,
            Activation::Relu6,
        ),
        stem_pool: false,
        blocks,
        head: Some(lite(
            conv("", "_conv_head", "_bn1", (320, 1280), 1, 1),
            1,
            Activation::Relu6,
        )),
        end_bn: false,
        node_activation: Activation::Identity,
        proxy_form: ProxyForm::Conv,
        bn_eps: 1e-3,
        classifier: "_fc",
        normalisation: LITE,
    }
}
