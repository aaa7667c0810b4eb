//! What clients see of a coordinator, to compare it with what they see of another.

use futures::TryStreamExt as _;
use nettailor_proto::v1;

use crate::site::Site;

/// Everything that clients can ask for.
#[derive(Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) jobs: Vec<v1::Job>,
    pub(crate) details: Vec<v1::Job>,
    pub(crate) events: Vec<Vec<v1::HistoryEvent>>,
    pub(crate) models: Vec<v1::Model>,
    pub(crate) backbones: Vec<v1::Backbone>,
}

pub(crate) async fn shown(site: &Site) -> Shown {
    let all = v1::ListJobsRequest::default();
    let jobs = site.jobs().list(all).await.unwrap().into_inner().jobs;
    let (mut details, mut events) = (Vec::new(), Vec::new());
    for job in &jobs {
        details.push(site.job(&job.id).await);
        let request = v1::EventsRequest {
            id: job.id.clone(),
            follow: false,
        };
        let told = site.jobs().events(request).await.unwrap().into_inner();
        events.push(told.try_collect().await.unwrap());
    }
    let all = v1::SearchRequest::default();
    let models = site.registry().search(all).await.unwrap().into_inner().models;
    let all = v1::ListBackbonesRequest {};
    let backbones = site.registry().list_backbones(all).await;
    Shown {
        jobs,
        details,
        events,
        models,
        backbones: backbones.unwrap().into_inner().backbones,
    }
}
