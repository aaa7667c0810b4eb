//! A submission is checked here, so that the driver only meets complete ones.

use std::collections::HashMap;
use std::time::Duration;

use nettailor_artifacts::ArtifactStore;
use nettailor_domain::ids::{Digest, TaskName, UserName};
use nettailor_domain::task::{BackboneInput, TaskInputs, TaskSpec};
use nettailor_domain::taskfile::TasksFile;
use nettailor_proto::convert::{self, jobs::task_inputs, parse};
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1;

use crate::grpc::storage;
use crate::handle::NewJob;

/// Reads the tasks file again, and finds every task's inputs in the artifact store.
pub(super) async fn read(store: &ArtifactStore, request: v1::SubmitRequest) -> Result<Vec<NewJob>, Error> {
    let user: UserName = match request.user.as_str() {
        "" => UserName::default(),
        name => parse(name, "user")?,
    };
    let priority = request.priority.map(priority).transpose()?;
    let deadline = request.deadline_minutes.map(minutes);
    // Tens of thousands of tasks take a second, in which others are to be served.
    let parsed = tokio::task::spawn_blocking(move || TasksFile::parse(&request.tasks_yaml)).await;
    let file = parsed
        .map_err(|broken| Error::new(Code::Internal, format!("reading the tasks file: {broken}")))?
        .map_err(|problems| Error::new(Code::InvalidTasksFile, problems.to_string()))?;
    let inputs = inputs(&file, request.inputs)?;
    let mut sizes = HashMap::new();
    let mut jobs = Vec::with_capacity(file.tasks.len());
    for (task, inputs) in file.tasks.into_iter().zip(inputs) {
        let (what, digest) = match &inputs.backbone {
            BackboneInput::Weights(digest) => ("backbone weights", *digest),
            BackboneInput::Source { data, .. } => ("backbone's source data", data.archive),
        };
        let backbone_bytes = size(store, &mut sizes, &task.name, what, digest).await?;
        let data_bytes = size(store, &mut sizes, &task.name, "data archive", inputs.data.archive).await?;
        jobs.push(NewJob {
            arch: file.backbone.arch,
            task,
            inputs,
            backbone_bytes,
            data_bytes,
            user: user.clone(),
            priority,
            deadline,
        });
    }
    Ok(jobs)
}

/// A priority within its bounds.
pub(super) fn priority(number: i32) -> Result<i8, convert::Error> {
    let within = i8::try_from(number)
        .ok()
        .filter(|number| (-100..=100).contains(number));
    let message = || format!("expected -100 to 100, found {number}");
    within.ok_or_else(|| convert::Error::invalid("priority", message()))
}

/// So many minutes.
pub(super) fn minutes(number: u32) -> Duration {
    Duration::from_secs(60 * u64::from(number))
}

/// The inputs of every task, in the file's order.
fn inputs(
    file: &TasksFile,
    mut given: HashMap<String, v1::TaskInputs>,
) -> Result<Vec<TaskInputs>, convert::Error> {
    let source = file.backbone.source.as_ref();
    let mut take = |task: &TaskSpec| {
        let field = format!("inputs.{}", task.name);
        let message = given.remove(task.name.as_str());
        let message = message.ok_or_else(|| convert::Error::missing(&field))?;
        task_inputs(message, source).map_err(|error| error.within(&field))
    };
    let found = file.tasks.iter().map(&mut take).collect::<Result<_, _>>()?;
    match given.keys().next() {
        Some(other) => Err(convert::Error::invalid(
            &format!("inputs.{other}"),
            "the tasks file has no such task",
        )),
        None => Ok(found),
    }
}

async fn size(
    store: &ArtifactStore,
    known: &mut HashMap<Digest, u64>,
    task: &TaskName,
    what: &str,
    digest: Digest,
) -> Result<u64, Error> {
    if let Some(bytes) = known.get(&digest) {
        return Ok(*bytes);
    }
    let Some(bytes) = store.size(digest).await.map_err(storage)? else {
        let message = format!(
            "task `{task}`: its {what}, blob {digest}, is not in the artifact store: upload it first"
        );
        return Err(Error::new(Code::BlobMissing, message));
    };
    known.insert(digest, bytes);
    Ok(bytes)
}
