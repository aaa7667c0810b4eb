//! The simulator against a coordinator in this process: small, so that nothing here is a measurement.

use std::collections::HashSet;

use nettailor_coordinator::{Config, Coordinator};
use nettailor_load::fleet::{Conduct, Fleet, Settings, What};
use nettailor_load::measures::{self, Drain, List, Lost, Progress, Submit};
use nettailor_load::site::{STAGES_PER_JOB, Site};
use nettailor_proto::v1;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Served {
    site: Site,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), nettailor_coordinator::Error>>,
    _folder: TempDir,
}

impl Served {
    async fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let config = Config::local(folder.path().to_owned());
        let running = Coordinator::start(config).await.expect("a coordinator");
        let url = format!("http://{}", running.address());
        let shutdown = CancellationToken::new();
        Self {
            running: tokio::spawn(running.run(shutdown.clone())),
            site: Site::connect(&url, 64).await.expect("a client"),
            shutdown,
            _folder: folder,
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.expect("no panic").expect("a good end");
    }

    async fn states(&self) -> Vec<v1::JobState> {
        let listed = self
            .site
            .jobs()
            .list(v1::ListJobsRequest::default())
            .await
            .expect("a page");
        listed.into_inner().jobs.iter().map(v1::Job::state).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_workers_carry_fifty_jobs_to_their_end() {
    let served = Served::start().await;
    let asked = Drain {
        jobs: 50,
        queues: 7,
        workers: 20,
        slots: 2,
    };
    let drained = measures::drain(&served.site, asked).await.unwrap();
    assert_eq!(drained.stage.count, 50 * STAGES_PER_JOB);
    assert!(drained.admission_seconds <= drained.seconds);
    let states = served.states().await;
    assert_eq!(states.len(), 50);
    assert!(
        states.iter().all(|state| *state == v1::JobState::Succeeded),
        "{states:?}"
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_holds_ends_when_it_is_told() {
    let served = Served::start().await;
    let accepted = served.site.fill(4, 2).await.unwrap();
    assert_eq!(
        accepted.iter().map(|job| &job.task).collect::<HashSet<_>>().len(),
        4
    );
    let settings = Settings {
        workers: 2,
        slots: 2,
        conduct: Conduct::Hold,
    };
    let mut fleet = Fleet::start(&served.site, settings).unwrap();
    let taken = fleet.assigned(4).await.unwrap();
    assert_eq!(served.states().await, [v1::JobState::Running; 4]);
    let (ended, seat, _) = taken[0].clone();
    fleet.finish(ended);
    let mut acknowledged = HashSet::new();
    while acknowledged.len() < 2 {
        if let What::Acknowledged(seat) = fleet.next().await.unwrap().what {
            acknowledged.insert(seat);
        }
    }
    assert!(acknowledged.contains(&seat));
    let others = taken.iter().filter(|(worker, ..)| *worker != ended);
    assert!(
        others
            .map(|(_, seat, _)| seat)
            .all(|seat| !acknowledged.contains(seat))
    );
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_measure_measures_something() {
    let served = Served::start().await;
    let asked = Submit {
        tasks: 20,
        answer_mib: 16,
        singles: 3,
        workers: 5,
    };
    let submitted = measures::submit(&served.site, asked).await.unwrap();
    assert_eq!((submitted.answer.count, submitted.assigned.count), (3, 3));
    let [file] = &submitted.files[..] else {
        panic!("{submitted:?}")
    };
    assert_eq!((file.tasks, &file.refused), (20, &None));
    served.stop().await;

    let served = Served::start().await;
    let asked = List {
        jobs: 1001,
        repetitions: 1,
    };
    assert_eq!(measures::list(&served.site, asked).await.unwrap().pages, 2);
    served.stop().await;

    let served = Served::start().await;
    let asked = Progress {
        jobs: 4,
        workers: 2,
        seconds: 0.2,
        window: 2,
        rate: 200,
    };
    let followed = measures::progress(&served.site, asked).await.unwrap();
    assert_eq!(followed.stages, 4);
    assert!(
        followed.most.latency.count > 0 && followed.paced.latency.count > 0,
        "{followed:?}"
    );
    served.stop().await;

    let served = Served::start().await;
    let asked = Lost {
        repetitions: 1,
        every_ms: 1,
        workers: 2,
    };
    assert_eq!(
        measures::lost(&served.site, asked)
            .await
            .unwrap()
            .reassigned
            .count,
        1
    );
    served.stop().await;
}
