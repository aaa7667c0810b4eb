//! Errors keep their class over the wire, and say what is wrong.

use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1;
use nettailor_proto::v1::upload_request::Part;
use tonic::{Response, Status};

use crate::site::{Site, from_source, inputs, next};

fn refused<T: std::fmt::Debug>(answer: Result<Response<T>, Status>, code: Code, words: &str) {
    let error = Error::from(answer.expect_err("must be refused"));
    assert_eq!(error.code, code, "{error:?}");
    assert!(
        error.message.contains(words),
        "{:?} does not say `{words}`",
        error.message
    );
}

#[tokio::test]
async fn requests_are_refused_by_class() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let (mut jobs, mut registry) = (site.jobs(), site.registry());
    let get = |id: &str| v1::GetJobRequest { id: id.into() };
    refused(jobs.get(get("nothing")).await, Code::JobNotFound, "nothing");
    refused(jobs.get(get("")).await, Code::InvalidArgument, "`id`");
    let cancel = v1::CancelJobRequest {
        id: "nothing".into(),
        reason: String::new(),
    };
    refused(jobs.cancel(cancel).await, Code::JobNotFound, "nothing");
    let page = v1::ListJobsRequest {
        page_token: "x".into(),
        ..Default::default()
    };
    refused(jobs.list(page).await, Code::InvalidArgument, "`page_token`");

    site.submit("digits").await;
    let job = site.submit("digits").await;
    refused(jobs.get(get("digits-")).await, Code::AmbiguousJob, "digits-");
    let logs = v1::LogsRequest {
        id: job.id,
        stage: "candidate(9)".into(),
        follow: false,
    };
    refused(jobs.logs(logs).await, Code::InvalidArgument, "candidate(2)");

    let model = v1::GetModelRequest {
        task: "digits".into(),
        version: 0,
    };
    refused(registry.get(model).await, Code::ModelNotFound, "digits");
    let search = v1::SearchRequest {
        min_accuracy: Some(98.0),
        ..Default::default()
    };
    refused(
        registry.search(search).await,
        Code::InvalidArgument,
        "`min_accuracy`",
    );
    let weights = Artifact {
        digest: Digest::of(b"never uploaded"),
        bytes: 3,
    };
    let backbone = |arch: &str| v1::RegisterBackboneRequest {
        arch: arch.into(),
        weights: Some(weights.into()),
        source: String::new(),
    };
    refused(
        registry.register_backbone(backbone("vgg16")).await,
        Code::BackboneUnknown,
        "vgg16",
    );
    let words = weights.digest.to_string();
    refused(
        registry.register_backbone(backbone("lite0")).await,
        Code::BlobMissing,
        &words,
    );
    site.stop().await;
}

#[tokio::test]
async fn a_submission_is_taken_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let good = site.submission(&["a", "b"]).await;
    let mut jobs = site.jobs();

    let misspelt = v1::SubmitRequest {
        tasks_yaml: good.tasks_yaml.replace("data:", "dta:"),
        ..good.clone()
    };
    refused(jobs.submit(misspelt).await, Code::InvalidTasksFile, "dta");
    let mut without = good.clone();
    without.inputs.remove("b");
    refused(jobs.submit(without).await, Code::InvalidArgument, "`inputs.b`");
    let mut more = good.clone();
    more.inputs.insert("c".into(), good.inputs["a"].clone());
    refused(jobs.submit(more).await, Code::InvalidArgument, "`inputs.c`");
    let absent = Artifact {
        digest: Digest::of(b"absent"),
        bytes: 1,
    };
    let mut missing = good.clone();
    missing.inputs.insert(
        "b".into(),
        inputs(site.artifacts.put_bytes("backbone").await.unwrap(), absent),
    );
    refused(
        jobs.submit(missing).await,
        Code::BlobMissing,
        &absent.digest.to_string(),
    );

    // Where the backbone's weights come from is said by the tasks file; the inputs must agree.
    let data = site.artifacts.put_bytes("data").await.unwrap();
    let sourced = |archive: Artifact| v1::SubmitRequest {
        tasks_yaml: good
            .tasks_yaml
            .replace("lite0", "{arch: lite0, source: {data: {path: s}}}"),
        inputs: ["a", "b"]
            .map(|name| (name.to_owned(), from_source(archive, data)))
            .into(),
        ..Default::default()
    };
    let trained = v1::SubmitRequest {
        tasks_yaml: good.tasks_yaml.clone(),
        ..sourced(data)
    };
    refused(
        jobs.submit(trained).await,
        Code::InvalidArgument,
        "`inputs.a.source`",
    );
    let bare = v1::SubmitRequest {
        inputs: good.inputs.clone(),
        ..sourced(data)
    };
    refused(
        jobs.submit(bare).await,
        Code::InvalidArgument,
        "`inputs.a.weights_digest`",
    );
    refused(
        jobs.submit(sourced(absent)).await,
        Code::BlobMissing,
        "its backbone's source data",
    );

    let listed = jobs
        .list(v1::ListJobsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .jobs;
    assert_eq!(listed, []);
    assert_eq!(jobs.submit(good).await.unwrap().into_inner().jobs.len(), 2);
    site.stop().await;
}

#[tokio::test]
async fn an_upload_is_kept_only_if_it_is_what_was_announced() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let bytes = vec![7; 3_000_000];
    let right = Artifact {
        digest: Digest::of(&bytes),
        bytes: bytes.len() as u64,
    };
    let wrong = Artifact {
        digest: Digest::of(b"other"),
        ..right
    };
    let parts = |announced: Artifact| {
        let chunks = bytes.chunks(1 << 20).map(|chunk| Part::Chunk(chunk.to_vec()));
        let parts: Vec<_> = std::iter::once(Part::Artifact(announced.into()))
            .chain(chunks)
            .collect();
        tokio_stream::iter(
            parts
                .into_iter()
                .map(|part| v1::UploadRequest { part: Some(part) }),
        )
    };
    let missing = async || {
        let request = v1::MissingRequest {
            digests: vec![right.digest.to_string(), wrong.digest.to_string()],
        };
        site.uploads()
            .missing(request)
            .await
            .unwrap()
            .into_inner()
            .digests
    };
    refused(
        site.uploads().upload(parts(wrong)).await,
        Code::DigestMismatch,
        &wrong.digest.to_string(),
    );
    assert_eq!(
        missing().await,
        [right.digest.to_string(), wrong.digest.to_string()]
    );

    let stored = site.uploads().upload(parts(right)).await.unwrap().into_inner();
    assert_eq!(Artifact::try_from(stored).unwrap(), right);
    assert_eq!(missing().await, [wrong.digest.to_string()]);

    let headless = tokio_stream::iter([v1::UploadRequest {
        part: Some(Part::Chunk(vec![1])),
    }]);
    refused(
        site.uploads().upload(headless).await,
        Code::InvalidArgument,
        "announce",
    );
    site.stop().await;
}

#[tokio::test]
async fn a_stopping_coordinator_ends_streams_as_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::start(folder.path()).await;
    let job = site.submit("digits").await;
    let mut watched = site.watch(&job.id).await;
    next(&mut watched).await.unwrap();
    site.stop().await;
    assert_eq!(next(&mut watched).await.unwrap_err().code, Code::Unavailable);
}
