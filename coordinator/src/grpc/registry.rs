//! Published networks and imported backbones.

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::TaskName;
use nettailor_domain::model::{BackboneRecord, ModelQuery, ModelRecord};
use nettailor_domain::stage::Artifact;
use nettailor_engine::State;
use nettailor_proto::convert::required;
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1;
use nettailor_proto::v1::registry_server::Registry;
use tonic::{Request, Response, Status};

use super::{Context, storage};

pub(super) struct Service(pub(super) Context);

#[tonic::async_trait]
impl Registry for Service {
    async fn search(
        &self,
        request: Request<v1::SearchRequest>,
    ) -> Result<Response<v1::SearchResponse>, Status> {
        let query = ModelQuery::try_from(request.into_inner())?;
        let found = move |state: &State| {
            query
                .select(state.scheduler.models())
                .into_iter()
                .cloned()
                .collect()
        };
        let models: Vec<ModelRecord> = self.0.handle.read(found).await?;
        Ok(Response::new(v1::SearchResponse {
            models: models.into_iter().map(Into::into).collect(),
        }))
    }

    async fn get(&self, request: Request<v1::GetModelRequest>) -> Result<Response<v1::Model>, Status> {
        let (task, version) = request.into_inner().try_into()?;
        let model = self
            .0
            .handle
            .read(move |state| model(state, &task, version))
            .await??;
        Ok(Response::new(model.into()))
    }

    async fn register_backbone(
        &self,
        request: Request<v1::RegisterBackboneRequest>,
    ) -> Result<Response<v1::Backbone>, Status> {
        let request = request.into_inner();
        let arch: BackboneName = request
            .arch
            .parse()
            .map_err(|error| Error::new(Code::BackboneUnknown, format!("{error}")))?;
        let weights: Artifact = required(request.weights, "weights")?;
        if self.0.artifacts.size(weights.digest).await.map_err(storage)? != Some(weights.bytes) {
            let message = format!(
                "blob {} of {} bytes is not in the artifact store",
                weights.digest, weights.bytes
            );
            return Err(Error::new(Code::BlobMissing, format!("{message}: upload the weights first")).into());
        }
        let source = request.source;
        let kept = self
            .0
            .handle
            .register(BackboneRecord {
                arch,
                weights,
                source,
                // Filled in when it is kept.
                registered_ms: 0,
            })
            .await?;
        Ok(Response::new(kept.into()))
    }

    async fn list_backbones(
        &self,
        _: Request<v1::ListBackbonesRequest>,
    ) -> Result<Response<v1::ListBackbonesResponse>, Status> {
        let all = |state: &State| state.backbones.values().cloned().collect::<Vec<_>>();
        let backbones = self.0.handle.read(all).await?;
        Ok(Response::new(v1::ListBackbonesResponse {
            backbones: backbones.into_iter().map(Into::into).collect(),
        }))
    }
}

/// One model; the newest without a version.
fn model(state: &State, task: &TaskName, version: Option<u32>) -> Result<ModelRecord, Error> {
    let newest = state
        .scheduler
        .models()
        .filter(|model| model.task == *task)
        .map(|model| model.version)
        .max();
    let Some(newest) = newest else {
        return Err(Error::new(
            Code::ModelNotFound,
            format!("no model of task `{task}` was published"),
        ));
    };
    let version = version.unwrap_or(newest);
    state.scheduler.model(task, version).cloned().ok_or_else(|| {
        let message = format!("task `{task}` has no model of version {version}: the newest is {newest}");
        Error::new(Code::ModelNotFound, message)
    })
}
