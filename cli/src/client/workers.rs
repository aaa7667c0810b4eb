//! Workers, and the users who share them.

use nettailor_domain::explain::Explanation;
use nettailor_domain::ids::{UserName, WorkerId};
use nettailor_proto::limits::MAX_MESSAGE_BYTES;
use nettailor_proto::v1;
use nettailor_proto::v1::users_client::UsersClient;
use nettailor_proto::v1::workers_client::WorkersClient;
use tonic::transport::Channel;

use super::{Client, answer, explanation};
use crate::error::Error;
use crate::views::{UserView, WorkerView};

/// What is to change about a user's share of the slots.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    /// Beside others.
    pub(crate) weight: Option<u32>,
    /// Most slots at a time; 0 for no limit.
    pub(crate) limit: Option<u32>,
    /// Slots that others make room for.
    pub(crate) guarantee: Option<u32>,
}

impl Client {
    fn workforce(&self) -> WorkersClient<Channel> {
        WorkersClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn accounts(&self) -> UsersClient<Channel> {
        UsersClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Every worker that is known.
    pub(crate) async fn workers(&self) -> Result<Vec<WorkerView>, Error> {
        let response = answer(
            "list workers",
            self.workforce().list(v1::ListWorkersRequest {}).await,
        )?;
        Ok(response.workers.into_iter().map(WorkerView::from).collect())
    }

    /// Gives a worker no new work; the worker as it is then, as below.
    pub(crate) async fn cordon(&self, worker: &WorkerId, reason: &str) -> Result<WorkerView, Error> {
        let request = v1::CordonRequest {
            worker: worker.to_string(),
            reason: reason.to_owned(),
        };
        let response = self.workforce().cordon(request).await;
        answer(format!("cordon {worker}"), response).map(WorkerView::from)
    }

    /// Gives a worker no new work, and has what runs on it go on elsewhere.
    pub(crate) async fn drain(&self, worker: &WorkerId, reason: &str) -> Result<WorkerView, Error> {
        let request = v1::CordonRequest {
            worker: worker.to_string(),
            reason: reason.to_owned(),
        };
        let response = self.workforce().drain(request).await;
        answer(format!("drain {worker}"), response).map(WorkerView::from)
    }

    /// Gives a worker work again.
    pub(crate) async fn uncordon(&self, worker: &WorkerId) -> Result<WorkerView, Error> {
        let request = v1::UncordonRequest {
            worker: worker.to_string(),
        };
        let response = self.workforce().uncordon(request).await;
        answer(format!("uncordon {worker}"), response).map(WorkerView::from)
    }

    /// Why a worker stands where it stands.
    pub(crate) async fn explain_worker(&self, worker: &WorkerId) -> Result<Explanation, Error> {
        let request = v1::ExplainWorkerRequest {
            worker: worker.to_string(),
        };
        let response = self.workforce().explain(request).await;
        explanation(format!("explain worker {worker}"), response)
    }

    /// Every user who has a job or a setting.
    pub(crate) async fn users(&self) -> Result<Vec<UserView>, Error> {
        let response = answer("list users", self.accounts().list(v1::ListUsersRequest {}).await)?;
        Ok(response.users.into_iter().map(UserView::from).collect())
    }

    /// Changes a user's share; the user as it is then.
    pub(crate) async fn set_user(&self, name: &UserName, share: Share) -> Result<UserView, Error> {
        let request = v1::SetUserRequest {
            name: name.to_string(),
            weight: share.weight,
            limit: share.limit,
            guarantee: share.guarantee,
        };
        answer(format!("set user {name}"), self.accounts().set(request).await).map(UserView::from)
    }
}
