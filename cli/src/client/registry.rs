//! Models and backbones.

use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::TaskName;
use nettailor_domain::model::{BackboneRecord, ModelQuery, ModelRecord};
use nettailor_domain::stage::Artifact;
use nettailor_proto::limits::MAX_MESSAGE_BYTES;
use nettailor_proto::v1;
use nettailor_proto::v1::registry_client::RegistryClient;
use tonic::transport::Channel;

use super::{Client, answer, understood};
use crate::error::Error;

impl Client {
    fn registry(&self) -> RegistryClient<Channel> {
        RegistryClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The models that answer a question.
    pub(crate) async fn search(&self, query: ModelQuery) -> Result<Vec<ModelRecord>, Error> {
        const ACTION: &str = "search the registry";
        let response = answer(
            ACTION,
            self.registry().search(v1::SearchRequest::from(query)).await,
        )?;
        understood(
            ACTION,
            response.models.into_iter().map(ModelRecord::try_from).collect(),
        )
    }

    /// A model of a task: this version, or the newest.
    pub(crate) async fn model(&self, task: &TaskName, version: Option<u32>) -> Result<ModelRecord, Error> {
        let action = version.map_or_else(
            || format!("get {task}"),
            |version| format!("get {task}@{version}"),
        );
        let request = v1::GetModelRequest {
            task: task.to_string(),
            version: version.unwrap_or(0),
        };
        let model = answer(action.clone(), self.registry().get(request).await)?;
        understood(action, model.try_into())
    }

    /// Makes uploaded weights the backbone that tasks files without weights of their own use.
    pub(crate) async fn register_backbone(
        &self,
        arch: BackboneName,
        weights: Artifact,
        source: &str,
    ) -> Result<BackboneRecord, Error> {
        let request = v1::RegisterBackboneRequest {
            arch: arch.as_str().to_owned(),
            weights: Some(weights.into()),
            source: source.to_owned(),
        };
        let action = format!("register the backbone {arch}");
        let backbone = answer(action.clone(), self.registry().register_backbone(request).await)?;
        understood(action, backbone.try_into())
    }

    /// Every imported backbone.
    pub(crate) async fn backbones(&self) -> Result<Vec<BackboneRecord>, Error> {
        const ACTION: &str = "list backbones";
        let response = answer(
            ACTION,
            self.registry().list_backbones(v1::ListBackbonesRequest {}).await,
        )?;
        understood(
            ACTION,
            response
                .backbones
                .into_iter()
                .map(BackboneRecord::try_from)
                .collect(),
        )
    }
}
