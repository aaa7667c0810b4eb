//! The case files: which backbone each is about, what its tensors are called there, and how near ours must be.

use nettailor_domain::backbone::BackboneName;
use serde_json::Value;

use crate::reference::Tolerance::{self, Largest, Norm};
use crate::reference::json;

/// One case file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) backbone: BackboneName,
    /// `case_<case>.json`.
    pub(crate) case: &'static str,
    /// `struct_<structure>_skip3.json`.
    structure: &'static str,
    pub(crate) tolerances: Tolerances,
}

/// How near our single precision must be to the reference's double precision (golden README, Tolerances).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tolerances {
    /// Nodes and logits under running statistics.
    pub(crate) evaluation: Tolerance,
    /// Nodes and logits under batch statistics, and the running statistics after the first step.
    pub(crate) training: Tolerance,
    /// Gradients under running statistics.
    pub(crate) evaluation_gradients: Tolerance,
    /// Gradients under batch statistics. `None` where the reference's own single precision is a tenth off: one decision
    /// of a ReLU within rounding of zero moves them as much. Evaluation gradients and single blocks stand in.
    pub(crate) training_gradients: Option<Tolerance>,
    /// Trained tensors after the first step.
    pub(crate) first_step: Tolerance,
    /// Everything after the third; `None` where the second step's losses already differ between precisions.
    pub(crate) third_step: Option<Tolerance>,
}

const BASIC: Tolerances = Tolerances {
    evaluation: Largest(1e-4),
    training: Largest(1e-4),
    evaluation_gradients: Largest(1e-4),
    training_gradients: Some(Largest(1e-4)),
    first_step: Largest(1e-4),
    third_step: Some(Largest(1e-3)),
};

/// So deep or wide that some decision of a ReLU is within rounding of zero, and falls the other way in another kernel:
/// under channels-last kernels training gradients are up to 8e-3 off in norm; in the reference's memory order, where
/// the decisions happen to fall alike, they were all measured within 7e-5.
const DEEP: Tolerances = Tolerances {
    evaluation_gradients: Largest(2e-4),
    training_gradients: Some(Norm(2e-2)),
    third_step: Some(Largest(1e-2)),
    ..BASIC
};

const DEEPEST: Tolerances = Tolerances {
    training: Largest(1e-3),
    training_gradients: None,
    first_step: Largest(1e-2),
    third_step: None,
    ..DEEP
};

pub(crate) const SUBJECTS: [Subject; 5] = [
    Subject {
        backbone: BackboneName::Resnet18,
        case: "resnet18_skip3_b4_64",
        structure: "resnet18",
        tolerances: BASIC,
    },
    Subject {
        backbone: BackboneName::Resnet18,
        case: "resnet18_skip3_b4_64_pruned",
        structure: "resnet18",
        tolerances: BASIC,
    },
    Subject {
        backbone: BackboneName::Resnet34,
        case: "resnet34_skip3_b4_64",
        structure: "resnet34",
        tolerances: DEEP,
    },
    Subject {
        backbone: BackboneName::Resnet50,
        case: "resnet50_skip3_b4_64",
        structure: "resnet50",
        tolerances: DEEPEST,
    },
    Subject {
        backbone: BackboneName::Wrn26,
        case: "wide_resnet26_skip3_b4_64",
        structure: "wide_resnet26",
        tolerances: DEEP,
    },
];

impl Subject {
    pub(crate) fn case(&self) -> Value {
        json(&format!("case_{}.json", self.case))
    }

    pub(crate) fn structure(&self) -> Value {
        json(&format!("struct_{}_skip3.json", self.structure))
    }

    /// The reference's name of one of our student's tensors.
    pub(crate) fn student_name(&self, ours: &str) -> String {
        if let Some(rest) = ours.strip_prefix("proxies.") {
            let [layer, source, rest]: [&str; 3] =
                rest.splitn(3, '.').collect::<Vec<_>>().try_into().unwrap();
            let (layer, source): (usize, usize) = (layer.parse().unwrap(), source.parse().unwrap());
            return format!("layers.{}.proxies.{}.{rest}", layer - 1, layer - 1 - source);
        }
        if let Some(rest) = ours.strip_prefix("end_bn.") {
            return format!("ends_bn.{rest}");
        }
        let Some((index, rest)) = self.in_block(ours) else {
            return ours.to_owned();
        };
        let rest = rest
            .replace("downsample.0", "conv_res")
            .replace("downsample.1", "bn_res");
        format!("layers.{index}.main.{rest}")
    }

    /// The name that seeds one of our teacher's tensors: torchvision's for the ResNets, which are ours; the reference's
    /// own for the wide network.
    pub(crate) fn teacher_name(&self, ours: &str) -> String {
        if self.backbone != BackboneName::Wrn26 {
            return ours.replace("classifier", "fc");
        }
        match self.in_block(ours) {
            Some((index, rest)) => format!("layers.{index}.{rest}"),
            None => ours.replace("end_bn", "ends_bn").replace("classifier", "linear"),
        }
    }

    /// Index of the main block that a tensor is part of, and its name within.
    fn in_block<'a>(&self, ours: &'a str) -> Option<(usize, &'a str)> {
        let blocks = self.backbone.describe().blocks;
        blocks.iter().enumerate().find_map(|(index, block)| {
            let prefix = block.body[0].conv.strip_suffix("conv1")?;
            Some((index, ours.strip_prefix(prefix)?))
        })
    }
}
