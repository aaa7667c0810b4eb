//! The blob cache: one fetch for many, a budget, and trust in nothing that lies on disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;
use nettailor_worker::cache::{BlobCache, Error, FetchError, PinnedBlob};
use tempfile::TempDir;

/// Bytes of every blob here.
const SIZE: u64 = 40;

fn content(name: u8) -> Vec<u8> {
    vec![name; SIZE as usize]
}

fn artifact(name: u8) -> Artifact {
    Artifact {
        digest: Digest::of(&content(name)),
        bytes: SIZE,
    }
}

/// A source that counts how often it is asked.
#[derive(Default)]
struct Source {
    fetches: AtomicUsize,
}

impl Source {
    async fn get(&self, cache: &BlobCache, name: u8) -> Result<PinnedBlob, Error> {
        let fetch = async |to: PathBuf| -> Result<(), FetchError> {
            self.fetches.fetch_add(1, Ordering::Relaxed);
            // Whoever is to run at the same time has the chance to.
            tokio::task::yield_now().await;
            Ok(tokio::fs::write(to, content(name)).await?)
        };
        cache.get_with(artifact(name), fetch).await
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::Relaxed)
    }
}

fn cache(dir: &Path, budget: u64) -> BlobCache {
    BlobCache::open(dir, budget).expect("a cache in a temporary folder")
}

fn blob(dir: &Path, name: u8) -> PathBuf {
    dir.join("blobs").join(artifact(name).digest.to_string())
}

#[tokio::test]
async fn eight_starters_fetch_once() {
    let dir = TempDir::new().expect("a folder");
    let (cache, source) = (cache(dir.path(), 1000), Source::default());
    let blobs = join_all((0..8).map(|_| source.get(&cache, b'a'))).await;
    for blob in blobs {
        let blob = blob.expect("a blob");
        assert_eq!(std::fs::read(blob.path()).expect("it is there"), content(b'a'));
    }
    assert_eq!(source.fetches(), 1);
    assert_eq!(cache.inventory().expect("a list"), [artifact(b'a').digest]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_caches_on_one_folder_fetch_once() {
    // As two processes would: file locks do not know whose they are.
    let dir = TempDir::new().expect("a folder");
    let source = Arc::new(Source::default());
    let starters = (0..8).map(|_| {
        let (cache, source) = (cache(dir.path(), 1000), source.clone());
        tokio::spawn(async move { source.get(&cache, b'a').await.map(drop) })
    });
    for blob in join_all(starters.collect::<Vec<_>>()).await {
        blob.expect("no panic").expect("a blob");
    }
    assert_eq!(source.fetches(), 1);
}

#[tokio::test]
async fn a_failed_fetch_leaves_the_turn_to_the_next() {
    let dir = TempDir::new().expect("a folder");
    let (cache, source) = (cache(dir.path(), 1000), Source::default());
    let (begin, begun) = tokio::sync::oneshot::channel();
    let failing = cache.get_with(artifact(b'a'), async |to: PathBuf| {
        begin.send(()).expect("the other waits for it");
        tokio::fs::write(to, b"half of it").await?;
        Err("the line went dead".into())
    });
    let next = async {
        begun.await.expect("the first fetches");
        source.get(&cache, b'a').await
    };
    let (failed, served) = tokio::join!(failing, next);
    assert!(matches!(failed, Err(Error::Fetch { .. })), "{failed:?}");
    served.expect("a blob");
    assert_eq!(
        std::fs::read_dir(dir.path().join("partial"))
            .expect("a folder")
            .count(),
        0
    );
}

#[tokio::test]
async fn the_least_recently_used_goes_first_and_what_is_pinned_stays() {
    let dir = TempDir::new().expect("a folder");
    let (cache, source) = (cache(dir.path(), 3 * SIZE), Source::default());
    let pinned = source.get(&cache, b'a').await.expect("a blob");
    for name in *b"bcb" {
        source.get(&cache, name).await.expect("a blob");
    }
    source.get(&cache, b'd').await.expect("a blob");
    let here = |name| blob(dir.path(), name).exists();
    assert_eq!(
        (here(b'a'), here(b'b'), here(b'c'), here(b'd')),
        (true, true, false, true)
    );
    drop(pinned);
    source.get(&cache, b'e').await.expect("a blob");
    assert!(!here(b'a') && here(b'b') && here(b'd') && here(b'e'));
}

#[tokio::test]
async fn decoded_data_counts_and_makes_room() {
    let dir = TempDir::new().expect("a folder");
    let (cache, source) = (cache(dir.path(), 2 * SIZE), Source::default());
    let packed = cache.decoded_dir().join("packed");
    std::fs::create_dir(&packed).expect("made");
    let file = |name: &str| packed.join(name);
    for name in ["a.safetensors", "a.lock", "b.partial"] {
        std::fs::write(file(name), content(b'p')).expect("written");
    }
    source.get(&cache, b'a').await.expect("a blob");
    assert!(file("a.safetensors").exists(), "both fit");
    let _pinned = source.get(&cache, b'b').await.expect("a blob");
    assert!(!file("a.safetensors").exists());
    assert!(file("a.lock").exists() && file("b.partial").exists());
}

#[tokio::test]
async fn another_processs_pin_counts() {
    let dir = TempDir::new().expect("a folder");
    let (ours, theirs, source) = (
        cache(dir.path(), SIZE),
        cache(dir.path(), SIZE),
        Source::default(),
    );
    let pinned = source.get(&theirs, b'a').await.expect("a blob");
    let refused = source.get(&ours, b'b').await;
    assert!(
        matches!(
            refused,
            Err(Error::OverBudget {
                needed: SIZE,
                kept: SIZE,
                ..
            })
        ),
        "{refused:?}"
    );
    drop(pinned);
    source.get(&ours, b'b').await.expect("a blob");
}

#[tokio::test]
async fn a_damaged_blob_is_fetched_again() {
    let dir = TempDir::new().expect("a folder");
    let source = Source::default();
    source.get(&cache(dir.path(), 1000), b'a').await.expect("a blob");
    // Same size, other bytes; then too short.
    for (fetches, damage) in [(2, content(b'x')), (3, b"short".to_vec())] {
        std::fs::write(blob(dir.path(), b'a'), damage).expect("damaged");
        let again = source.get(&cache(dir.path(), 1000), b'a').await.expect("a blob");
        assert_eq!(std::fs::read(again.path()).expect("it is there"), content(b'a'));
        assert_eq!(source.fetches(), fetches);
    }
    // An intact one is not.
    source.get(&cache(dir.path(), 1000), b'a').await.expect("a blob");
    assert_eq!(source.fetches(), 3);
}

#[tokio::test]
async fn what_arrives_damaged_is_refused() {
    let dir = TempDir::new().expect("a folder");
    let cache = cache(dir.path(), 1000);
    let got = cache
        .get_with(artifact(b'a'), async |to: PathBuf| {
            Ok(tokio::fs::write(to, content(b'b')).await?)
        })
        .await;
    assert!(matches!(got, Err(Error::Damaged { .. })), "{got:?}");
    assert!(cache.inventory().expect("a list").is_empty());
}

#[tokio::test]
async fn a_full_disk_is_named_with_the_bytes_needed() {
    let dir = TempDir::new().expect("a folder");
    let cache = cache(dir.path(), 1000);
    let full = async |_: PathBuf| -> Result<(), FetchError> {
        Err(io::Error::other(io::Error::from(io::ErrorKind::StorageFull)).into())
    };
    let error = cache.get_with(artifact(b'a'), full).await.expect_err("no space");
    let text = error.to_string();
    assert!(matches!(error, Error::NoSpace { .. }), "{text}");
    assert!(
        text.contains("40 bytes") && text.contains(&dir.path().display().to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn what_a_dead_process_left_is_swept_away() {
    let dir = TempDir::new().expect("a folder");
    drop(cache(dir.path(), 1000));
    let left = dir.path().join("partial").join(artifact(b'a').digest.to_string());
    std::fs::create_dir(&left)
        .and_then(|()| std::fs::write(left.join("blob"), b"half"))
        .expect("left behind");
    drop(cache(dir.path(), 1000));
    assert!(!left.exists());
}

#[tokio::test]
async fn a_file_of_known_content_is_taken_over() {
    let dir = TempDir::new().expect("a folder");
    let (cache, source) = (cache(dir.path(), 1000), Source::default());
    let file = dir.path().join("attempts/weights");
    std::fs::write(&file, content(b'a')).expect("written");
    cache.adopt(artifact(b'a'), &file).await.expect("taken over");
    source.get(&cache, b'a').await.expect("a blob");
    assert_eq!((source.fetches(), file.exists()), (0, false));
}
