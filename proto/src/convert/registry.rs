//! Models, questions to the registry, and backbones.

use nettailor_domain::architecture::{Counts, Selection};
use nettailor_domain::ids::TaskName;
use nettailor_domain::model::{
    BackboneRecord, Lineage, ModelAccuracy, ModelLatency, ModelQuery, ModelRecord, SortKey,
};
use nettailor_domain::stage::{FrontierPoint, Latency};
use nettailor_domain::units::Cost;

use super::{Error, all, from_json, parse, parse_all, required, to_json};
use crate::v1;

impl TryFrom<v1::SearchRequest> for ModelQuery {
    type Error = Error;
    fn try_from(message: v1::SearchRequest) -> Result<Self, Error> {
        if let Some(least) = message.min_accuracy.filter(|least| !(0.0..=1.0).contains(least)) {
            return Err(Error::invalid(
                "min_accuracy",
                format!("{least} is not a fraction from 0 to 1"),
            ));
        }
        let sort = v1::SortKey::try_from(message.sort).map_err(|error| Error::invalid("sort", error))?;
        Ok(Self {
            task: Some(message.task).filter(|part| !part.is_empty()),
            min_accuracy: message.min_accuracy,
            max_params: message.max_params,
            max_flops: message.max_flops,
            all_versions: message.all_versions,
            sort: sort.into(),
            descending: message.descending,
            limit: Some(message.limit as usize).filter(|&limit| limit > 0),
        })
    }
}

impl From<ModelQuery> for v1::SearchRequest {
    fn from(query: ModelQuery) -> Self {
        Self {
            task: query.task.unwrap_or_default(),
            min_accuracy: query.min_accuracy,
            max_params: query.max_params,
            max_flops: query.max_flops,
            all_versions: query.all_versions,
            sort: v1::SortKey::from(query.sort).into(),
            descending: query.descending,
            limit: query
                .limit
                .map_or(0, |limit| u32::try_from(limit).unwrap_or(u32::MAX)),
        }
    }
}

impl From<v1::SortKey> for SortKey {
    fn from(key: v1::SortKey) -> Self {
        match key {
            v1::SortKey::Unspecified | v1::SortKey::Task => Self::Task,
            v1::SortKey::Accuracy => Self::Accuracy,
            v1::SortKey::Params => Self::Params,
            v1::SortKey::Flops => Self::Flops,
            v1::SortKey::Published => Self::Published,
        }
    }
}

impl From<SortKey> for v1::SortKey {
    fn from(key: SortKey) -> Self {
        match key {
            SortKey::Task => Self::Task,
            SortKey::Accuracy => Self::Accuracy,
            SortKey::Params => Self::Params,
            SortKey::Flops => Self::Flops,
            SortKey::Published => Self::Published,
        }
    }
}

/// A task and, unless the newest model is asked for, a version.
impl TryFrom<v1::GetModelRequest> for (TaskName, Option<u32>) {
    type Error = Error;
    fn try_from(message: v1::GetModelRequest) -> Result<Self, Error> {
        Ok((
            parse(&message.task, "task")?,
            Some(message.version).filter(|&version| version > 0),
        ))
    }
}

impl TryFrom<v1::Model> for ModelRecord {
    type Error = Error;
    fn try_from(message: v1::Model) -> Result<Self, Error> {
        Ok(Self {
            task: parse(&message.task, "task")?,
            version: message.version,
            architecture: from_json(&message.architecture_json, "architecture_json")?,
            counts: required(message.counts, "counts")?,
            image_size: message.image_size,
            classes: message.classes,
            selection: required(message.selection, "selection")?,
            accuracy: ModelAccuracy {
                held_out: required(message.held_out, "held_out")?,
                test: required(message.test, "test")?,
                teacher_held_out: required(message.teacher_held_out, "teacher_held_out")?,
                teacher_test: required(message.teacher_test, "teacher_test")?,
            },
            frontier: all(message.frontier, "frontier")?,
            latency: ModelLatency {
                network: required(message.latency, "latency")?,
                teacher: required(message.teacher_latency, "teacher_latency")?,
            },
            weights: required(message.weights, "weights")?,
            teacher: required(message.teacher, "teacher")?,
            lineage: required(message.lineage, "lineage")?,
            published_ms: message.published_ms,
        })
    }
}

impl From<ModelRecord> for v1::Model {
    fn from(model: ModelRecord) -> Self {
        Self {
            architecture_json: to_json(&model.architecture),
            task: model.task.into(),
            version: model.version,
            counts: Some(model.counts.into()),
            image_size: model.image_size,
            classes: model.classes,
            selection: Some(model.selection.into()),
            held_out: Some(model.accuracy.held_out.into()),
            test: Some(model.accuracy.test.into()),
            teacher_held_out: Some(model.accuracy.teacher_held_out.into()),
            teacher_test: Some(model.accuracy.teacher_test.into()),
            weights: Some(model.weights.into()),
            teacher: Some(model.teacher.into()),
            lineage: Some(model.lineage.into()),
            published_ms: model.published_ms,
            frontier: model.frontier.into_iter().map(Into::into).collect(),
            latency: Some(model.latency.network.into()),
            teacher_latency: Some(model.latency.teacher.into()),
        }
    }
}

impl TryFrom<v1::FrontierPoint> for FrontierPoint {
    type Error = Error;
    fn try_from(message: v1::FrontierPoint) -> Result<Self, Error> {
        Ok(Self {
            k: message.k as usize,
            counts: required(message.counts, "counts")?,
            held_out: required(message.held_out, "held_out")?,
            epochs: message.epochs,
        })
    }
}

impl From<FrontierPoint> for v1::FrontierPoint {
    fn from(point: FrontierPoint) -> Self {
        Self {
            k: removed(point.k),
            counts: Some(point.counts.into()),
            held_out: Some(point.held_out.into()),
            epochs: point.epochs,
        }
    }
}

/// Main blocks removed: at most the number of a backbone's layers.
fn removed(k: usize) -> u32 {
    u32::try_from(k).unwrap_or(u32::MAX)
}

impl From<v1::Latency> for Latency {
    fn from(message: v1::Latency) -> Self {
        Self {
            batch_1_ms: message.batch_1_ms,
            batch_32_ms: message.batch_32_ms,
        }
    }
}

impl From<Latency> for v1::Latency {
    fn from(latency: Latency) -> Self {
        Self {
            batch_1_ms: latency.batch_1_ms,
            batch_32_ms: latency.batch_32_ms,
        }
    }
}

impl From<v1::Counts> for Counts {
    fn from(message: v1::Counts) -> Self {
        Self {
            task_params: message.task_params,
            active_params: message.active_params,
            active_flops: message.active_flops,
            backbone: Cost {
                flops: message.backbone_flops,
                params: message.backbone_params,
            },
        }
    }
}

impl From<Counts> for v1::Counts {
    fn from(counts: Counts) -> Self {
        Self {
            task_params: counts.task_params,
            active_params: counts.active_params,
            active_flops: counts.active_flops,
            backbone_params: counts.backbone.params,
            backbone_flops: counts.backbone.flops,
        }
    }
}

impl From<v1::Selection> for Selection {
    fn from(message: v1::Selection) -> Self {
        Self {
            k: message.k as usize,
            threshold: message.threshold,
            qualified: message.qualified,
        }
    }
}

impl From<Selection> for v1::Selection {
    fn from(selection: Selection) -> Self {
        Self {
            k: removed(selection.k),
            threshold: selection.threshold,
            qualified: selection.qualified,
        }
    }
}

impl TryFrom<v1::Lineage> for Lineage {
    type Error = Error;
    fn try_from(message: v1::Lineage) -> Result<Self, Error> {
        Ok(Self {
            job: parse(&message.job, "job")?,
            backbone: parse(&message.backbone_digest, "backbone_digest")?,
            data: parse(&message.data_digest, "data_digest")?,
            stages: parse_all(&message.stage_keys, "stage_keys")?,
            training_seconds: message.training_seconds,
        })
    }
}

impl From<Lineage> for v1::Lineage {
    fn from(lineage: Lineage) -> Self {
        Self {
            job: lineage.job.into(),
            backbone_digest: lineage.backbone.to_string(),
            data_digest: lineage.data.to_string(),
            stage_keys: lineage.stages.iter().map(ToString::to_string).collect(),
            training_seconds: lineage.training_seconds,
        }
    }
}

impl TryFrom<v1::Backbone> for BackboneRecord {
    type Error = Error;
    fn try_from(message: v1::Backbone) -> Result<Self, Error> {
        Ok(Self {
            arch: parse(&message.arch, "arch")?,
            weights: required(message.weights, "weights")?,
            source: message.source,
            registered_ms: message.registered_ms,
        })
    }
}

impl From<BackboneRecord> for v1::Backbone {
    fn from(backbone: BackboneRecord) -> Self {
        // Parameters do not depend on the input's size; any size will do.
        let params = backbone.arch.describe().cost(224).params;
        Self {
            arch: backbone.arch.as_str().to_owned(),
            weights: Some(backbone.weights.into()),
            source: backbone.source,
            registered_ms: backbone.registered_ms,
            params,
        }
    }
}
