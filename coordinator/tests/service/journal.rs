//! The state directory can be lost: everything is in the journal.

use std::fs;
use std::path::{Path, PathBuf};

use nettailor_artifacts::{ArtifactStore, Incarnation, JournalObject};
use nettailor_coordinator::{Config, Coordinator, Error, JournalError, Rebuilt, RecoveryError, store};
use nettailor_domain::trainer::{Failure, FailureClass};
use nettailor_proto::convert::session::FromAgent;
use nettailor_proto::exit::Exit;
use nettailor_proto::v1::{self, JobState};

use crate::agent::Agent;
use crate::shown::{Shown, shown};
use crate::site::Site;

/// A state directory, and an artifact store outside of it.
struct Ground {
    folder: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// A coordinator on this state directory and the common artifact store.
    fn config(&self, state: &str) -> Config {
        Config {
            artifacts: Some(nettailor_artifacts::folder(&self.path("artifacts")).unwrap()),
            ..Config::local(self.path(state))
        }
    }

    async fn start(&self) -> Site {
        Site::start_with(self.config("state")).await.unwrap()
    }

    async fn refusal(&self) -> Error {
        let started = Site::start_with(self.config("state")).await;
        started.map(drop).expect_err("it must not start")
    }

    async fn rebuild(&self) -> Result<Rebuilt, Error> {
        Coordinator::rebuild(self.config("state"), None).await
    }

    /// The state directory is lost, and what is rebuilt shows this.
    async fn loses_its_state_and_shows(&self, before: &Shown) {
        fs::remove_dir_all(self.state()).unwrap();
        self.rebuild().await.unwrap();
        let site = self.start().await;
        assert_eq!(shown(&site).await, *before);
        site.stop().await;
    }

    async fn objects(&self) -> Vec<JournalObject> {
        let url = nettailor_artifacts::folder(&self.path("artifacts")).unwrap();
        ArtifactStore::open(&url).unwrap().list_journals().await.unwrap()
    }

    fn object(&self, object: JournalObject) -> PathBuf {
        self.path("artifacts").join(object.path())
    }

    /// The databases that were set aside.
    fn set_aside(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.state()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| {
                path.file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with("damaged-")
            })
            .collect()
    }
}

/// Something that happens to a state directory.
type Damage = (&'static str, fn(&Path));

async fn register(site: &Site) {
    let weights = site.artifacts.put_bytes("weights").await.unwrap();
    let source = "lite0.pth".to_owned();
    let register = v1::RegisterBackboneRequest {
        arch: "lite0".into(),
        weights: Some(weights.into()),
        source,
    };
    site.registry().register_backbone(register).await.unwrap();
}

/// A job with images of its own: it shares no stage with others.
async fn submit_apart(site: &Site, name: &str) -> v1::Job {
    let mut submission = site.submission(&[name]).await;
    let data = site.artifacts.put_bytes(name.to_owned()).await.unwrap();
    let backbone = site.artifacts.put_bytes("backbone").await.unwrap();
    submission
        .inputs
        .insert(name.into(), crate::site::inputs(backbone, data));
    let submitted = site.jobs().submit(submission).await.unwrap().into_inner();
    submitted.jobs[0].clone()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Jobs in every state; what is shown of them once the agent is away, and the attempt that still runs.
async fn filled(ground: &Ground) -> (Shown, nettailor_domain::session::Order) {
    let site = ground.start().await;
    register(&site).await;
    let mut agent = Agent::connect(&site, "w1", vec![]).await;
    let done = submit_apart(&site, "done").await;
    agent.work(4).await;
    submit_apart(&site, "failed").await;
    let order = agent.order().await;
    let failure = Failure {
        class: FailureClass::Input,
        message: "no images".into(),
    };
    agent
        .say(FromAgent::Failed {
            seat: order.seat,
            failure,
        })
        .await;
    submit_apart(&site, "running").await;
    agent.hear().await.unwrap();
    let order = agent.order().await;
    let cancelled = submit_apart(&site, "cancelled").await;
    let cancel = v1::CancelJobRequest {
        id: cancelled.id,
        reason: "enough".into(),
    };
    site.jobs().cancel(cancel).await.unwrap();
    submit_apart(&site, "queued").await;
    assert_eq!(site.job(&done.id).await.state(), JobState::Succeeded);
    site.stop().await;

    let site = ground.start().await;
    let before = shown(&site).await;
    site.stop().await;
    let states: Vec<JobState> = before.jobs.iter().map(|job| job.state()).collect();
    let expected = [
        JobState::Queued,
        JobState::Cancelled,
        JobState::Running,
        JobState::Failed,
        JobState::Succeeded,
    ];
    assert_eq!(states, expected, "{before:?}");
    assert_eq!((before.models.len(), before.backbones.len()), (1, 1));
    (before, order)
}

#[tokio::test]
async fn a_lost_state_directory_is_rebuilt_to_the_byte_and_its_attempts_go_on() {
    let ground = Ground::new();
    let (before, order) = filled(&ground).await;
    fs::remove_dir_all(ground.state()).unwrap();

    // It does not begin empty.
    let error = ground.refusal().await;
    assert_eq!(error.exit(), Exit::Conflict);
    assert!(
        error
            .to_string()
            .contains("nettailor-coordinator rebuild --state"),
        "{error}"
    );
    assert!(!ground.state().join("db").exists());

    let rebuilt = ground.rebuild().await.unwrap();
    assert_eq!(rebuilt.set_aside, None);
    let site = ground.start().await;
    assert_eq!(shown(&site).await, before);
    // The attempt that ran is current under its number; all that start from now on leave a hundred numbers out.
    let mut agent = Agent::connect(&site, "w1", vec![order.seat]).await;
    agent.finish(&order).await;
    let next = agent.order().await;
    assert_eq!(
        (order.seat.attempt.number, next.seat.attempt.number),
        (1, 101),
        "{next:?}"
    );
    let running = &before.jobs[2].id;
    let job = site.job(running).await;
    assert_eq!(job.stages[0].state(), v1::StageState::Done, "{job:?}");
    let after = shown(&site).await;
    site.stop().await;

    // Once more: what was rebuilt has a journal, too, and is not what it was.
    assert_ne!(after, before);
    fs::remove_dir_all(ground.state()).unwrap();
    ground.rebuild().await.unwrap();
    let site = ground.start().await;
    let again = shown(&site).await;
    assert_eq!(again.models, after.models);
    let mut agent = Agent::connect(&site, "w1", vec![next.seat]).await;
    agent.finish(&next).await;
    assert_eq!(agent.order().await.seat.attempt.number, 201);
    site.stop().await;
}

#[tokio::test]
async fn damage_is_set_aside_and_the_state_is_made_again() {
    let ground = Ground::new();
    let (before, _) = filled(&ground).await;
    let damages: [Damage; 5] = [
        ("overwritten", |state| {
            fs::write(state.join("db/db"), [0xA5; 100_000]).unwrap()
        }),
        ("emptied", |state| fs::write(state.join("db/db"), []).unwrap()),
        ("removed", |state| fs::remove_dir_all(state.join("db")).unwrap()),
        ("its log, in parts", |state| {
            let mut segments = fs::read_dir(state.join("wal")).unwrap();
            let path = segments.next().expect("a segment").unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            bytes[2_000..].iter_mut().for_each(|byte| *byte ^= 0x5A);
            fs::write(path, bytes).unwrap();
        }),
        ("all of it", |state| {
            fs::remove_dir_all(state.join("db")).unwrap();
            fs::remove_dir_all(state.join("wal")).unwrap();
            fs::remove_file(state.join("format")).unwrap();
            fs::remove_file(state.join("commits")).unwrap();
        }),
    ];
    for (what, damage) in damages {
        let aside = ground.set_aside().len();
        damage(&ground.state());
        let site = ground.start().await;
        assert_eq!(shown(&site).await, before, "{what}");
        site.stop().await;
        let moved = usize::from(what != "all of it");
        assert_eq!(ground.set_aside().len(), aside + moved, "{what}");
        // A second start finds nothing wrong.
        let site = ground.start().await;
        assert_eq!(shown(&site).await, before, "{what}, once more");
        site.stop().await;
        assert_eq!(ground.set_aside().len(), aside + moved, "{what}, once more");
    }
}

#[tokio::test]
async fn an_earlier_copy_of_the_state_is_not_taken_for_the_state() {
    let ground = Ground::new();
    let site = ground.start().await;
    submit_apart(&site, "a").await;
    site.stop().await;
    copy(&ground.state(), &ground.path("copy"));
    let site = ground.start().await;
    submit_apart(&site, "b").await;
    let before = shown(&site).await;
    site.stop().await;

    fs::remove_dir_all(ground.state()).unwrap();
    fs::rename(ground.path("copy"), ground.state()).unwrap();
    let site = ground.start().await;
    assert_eq!(shown(&site).await, before);
    site.stop().await;
    assert_eq!(ground.set_aside().len(), 1);
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_loss_of_the_state_at_once() {
    let ground = Ground::new();
    let site = ground.start().await;
    for (count, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let job = submit_apart(&site, name).await;
        // The moment after the answer, as it would be found by another machine.
        let other = Ground::new();
        copy(&ground.path("artifacts"), &other.path("artifacts"));
        other.rebuild().await.unwrap();
        let site = other.start().await;
        let jobs = shown(&site).await.jobs;
        assert_eq!((jobs.len(), &jobs[0].id), (count + 1, &job.id));
        site.stop().await;
    }
    site.stop().await;
}

#[tokio::test]
async fn a_store_that_is_away_delays_answers_and_loses_nothing() {
    let ground = Ground::new();
    let site = ground.start().await;
    submit_apart(&site, "a").await;
    let there = ground.objects().await;
    let (journal, away) = (ground.path("artifacts/journal"), ground.path("away"));
    fs::rename(&journal, &away).unwrap();
    fs::write(&journal, "in the way").unwrap();
    submit_apart(&site, "b").await;
    let before = shown(&site).await;
    assert_eq!(before.jobs.len(), 2, "it was answered");
    fs::remove_file(&journal).unwrap();
    fs::rename(&away, &journal).unwrap();
    assert_eq!(ground.objects().await, there, "nothing could be written");
    site.stop().await;

    ground.loses_its_state_and_shows(&before).await;
}

#[tokio::test]
async fn a_journal_that_was_left_behind_or_damaged_begins_anew() {
    let ground = Ground::new();
    let (before, _) = filled(&ground).await;
    let objects = ground.objects().await;
    let damages: [&dyn Fn(); 3] = [
        &|| fs::remove_dir_all(ground.path("artifacts/journal")).unwrap(),
        &|| {
            let path = fs::read_dir(ground.object(objects[0]).parent().unwrap()).unwrap();
            let path = path.last().unwrap().unwrap().path();
            let text = fs::read(&path).unwrap();
            fs::write(path, &text[..text.len() - 5]).unwrap();
        },
        // The last second was not written.
        &|| {
            let path = ground.object(objects[0]).parent().unwrap().to_owned();
            let mut names: Vec<_> = fs::read_dir(path)
                .unwrap()
                .map(|one| one.unwrap().path())
                .collect();
            names.sort();
            fs::remove_file(names.last().unwrap()).unwrap();
        },
    ];
    for damage in damages {
        damage();
        let site = ground.start().await;
        assert_eq!(shown(&site).await, before);
        site.stop().await;
        assert_eq!(ground.set_aside(), Vec::<PathBuf>::new(), "the database is sound");
        let objects = ground.objects().await;
        assert_eq!((objects.len(), objects[0].first), (1, 0), "{objects:?}");
    }
    ground.loses_its_state_and_shows(&before).await;
}

#[tokio::test]
async fn merged_objects_take_the_place_of_many() {
    let ground = Ground::new();
    let site = ground.start().await;
    for number in 0..150 {
        submit_apart(&site, &format!("task{number}")).await;
    }
    let before = shown(&site).await;
    site.stop().await;
    let objects = ground.objects().await;
    assert!(
        objects.len() < 100 && objects[0].first == 1 && objects[0].last >= 64,
        "{objects:?}"
    );
    assert_eq!(objects.last().unwrap().last, 150);
    ground.loses_its_state_and_shows(&before).await;
}

#[tokio::test]
async fn a_journal_with_a_damaged_or_missing_object_is_not_used_and_the_object_is_named() {
    let ground = Ground::new();
    let site = ground.start().await;
    for name in ["a", "b", "c"] {
        submit_apart(&site, name).await;
    }
    site.stop().await;
    fs::remove_dir_all(ground.state()).unwrap();
    let objects = ground.objects().await;
    assert_eq!(objects.len(), 3, "{objects:?}");
    let path = ground.object(objects[1]);
    let text = fs::read(&path).unwrap();
    let mut changed = text.clone();
    changed[text.len() / 2] ^= 1;
    for damaged in [&text[..text.len() - 1], &text[..text.len() / 2], &[], &changed] {
        fs::write(&path, damaged).unwrap();
        let error = ground.rebuild().await.expect_err("it is damaged");
        assert!(
            matches!(&error, Error::Recovery(RecoveryError::Journal(JournalError::Damaged { path, .. })) if *path == objects[1].path()),
            "{error:?}"
        );
        assert!(!ground.state().join("db").exists());
    }
    fs::remove_file(&path).unwrap();
    let error = ground.rebuild().await.expect_err("it is missing");
    assert!(
        matches!(&error, Error::Recovery(RecoveryError::Journal(JournalError::Gap { path, last: 1 })) if *path == objects[2].path()),
        "{error:?}"
    );
    fs::write(&path, &text).unwrap();
    // A write that was cut off was never acknowledged.
    let begun = format!(
        "{}#1",
        ground
            .object(JournalObject {
                first: 4,
                last: 5,
                ..objects[2]
            })
            .display()
    );
    fs::write(begun, &text[..40]).unwrap();
    assert_eq!(ground.rebuild().await.unwrap().commits, 3);
}

#[tokio::test]
async fn rebuild_refuses_what_it_should_not_touch() {
    let ground = Ground::new();
    let error = ground.rebuild().await.expect_err("there is no journal");
    assert_eq!(error.exit(), Exit::NotFound, "{error}");

    // Two coordinators that share an artifact store, as they should not.
    let other = ground.config("other");
    let first = ground.start().await;
    let second = Site::start_with(other.clone()).await.unwrap();
    submit_apart(&first, "a").await;
    let kept = submit_apart(&second, "b").await;
    first.stop().await;
    let error = ground.rebuild().await.expect_err("there is a database");
    assert_eq!(error.exit(), Exit::Conflict, "{error}");
    let error = Coordinator::rebuild(other.clone(), None)
        .await
        .expect_err("it is in use");
    assert!(
        matches!(error, Error::Store(store::Error::Locked { .. })),
        "{error}"
    );
    second.stop().await;

    // Which is which is known as long as the directory is there.
    fs::remove_dir_all(ground.path("other/db")).unwrap();
    let incarnation = Coordinator::rebuild(other.clone(), None)
        .await
        .unwrap()
        .incarnation;
    fs::remove_dir_all(ground.path("other")).unwrap();
    let error = Coordinator::rebuild(other.clone(), None)
        .await
        .expect_err("there are two");
    assert_eq!(error.exit(), Exit::Usage, "{error}");
    assert!(error.to_string().contains(&incarnation.to_string()), "{error}");
    let unknown = Some(Incarnation::new(7));
    let error = Coordinator::rebuild(other.clone(), unknown)
        .await
        .expect_err("there is no such journal");
    assert_eq!(error.exit(), Exit::NotFound, "{error}");
    Coordinator::rebuild(other.clone(), Some(incarnation))
        .await
        .unwrap();
    let site = Site::start_with(other).await.unwrap();
    assert_eq!(shown(&site).await.jobs[0].id, kept.id);
    site.stop().await;
}
