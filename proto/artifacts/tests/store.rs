//! The artifact store over a folder: what is promised about blobs and manifests.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

use std::fs;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use futures::{TryStreamExt as _, stream};
use nettailor_artifacts::{
    ArtifactStore, Error, Incarnation, JournalObject, Kind, Manifest, digest_of_file, location,
};
use nettailor_domain::backbone::BackboneName;
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;
use url::Url;

struct Folder {
    dir: tempfile::TempDir,
    store: ArtifactStore,
}

fn folder() -> Folder {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let url = Url::from_directory_path(dir.path().join("a/b")).expect("an absolute path");
    let store = ArtifactStore::open(&url).expect("the folder is made");
    Folder { dir, store }
}

impl Folder {
    fn blobs(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("a/b/blobs")) else {
            return vec![];
        };
        entries
            .map(|entry| entry.expect("readable").file_name().into_string().expect("text"))
            .collect()
    }

    fn local(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Larger than two parts, and not a multiple of anything.
fn large() -> Vec<u8> {
    (0..20_000_003u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

#[tokio::test]
async fn blobs_come_back_as_they_went_in() {
    let at = folder();
    for bytes in [vec![], b"small".to_vec(), large()] {
        let file = at.local("in");
        fs::write(&file, &bytes).unwrap();
        let artifact = at.store.put_file(&file).await.unwrap();
        assert_eq!(
            artifact,
            Artifact {
                digest: Digest::of(&bytes),
                bytes: bytes.len() as u64
            }
        );
        assert!(at.store.contains(artifact.digest).await.unwrap());
        let out = at.local("out");
        assert_eq!(
            at.store.get_to_file(artifact.digest, &out).await.unwrap(),
            artifact.bytes
        );
        assert!(fs::read(&out).unwrap() == bytes);
        assert_eq!(digest_of_file(&out).await.unwrap(), artifact);
    }
}

#[tokio::test]
async fn a_blob_is_written_once() {
    let at = folder();
    let first = at.store.put_bytes("same").await.unwrap();
    let path = at.local("a/b/blobs").join(first.digest.to_string());
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    assert_eq!(at.store.put_bytes("same").await.unwrap(), first);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
}

#[tokio::test]
async fn a_blob_that_was_cut_off_is_replaced() {
    let at = folder();
    for bytes in [Bytes::from_static(b"whole"), Bytes::from(large())] {
        let artifact = at.store.put_bytes(bytes.clone()).await.unwrap();
        let path = at.local("a/b/blobs").join(artifact.digest.to_string());
        fs::write(&path, "who").unwrap();
        assert_eq!(at.store.put_bytes(bytes.clone()).await.unwrap(), artifact);
        assert!(fs::read(&path).unwrap() == bytes);
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_told() {
    let at = folder();
    at.store.probe().await.unwrap();
    at.store.probe().await.unwrap();
    let root = at.local("a/b");
    fs::remove_dir_all(&root).unwrap();
    fs::write(&root, "").unwrap();
    let error = at.store.probe().await.unwrap_err();
    assert!(matches!(error, Error::Store { .. }), "{error:?}");
}

#[tokio::test]
async fn other_bytes_than_announced_leave_nothing() {
    let at = folder();
    for bytes in [Bytes::from_static(b"small"), Bytes::from(large())] {
        let announced = Artifact {
            digest: Digest::of(b"something else"),
            bytes: bytes.len() as u64,
        };
        let chunks: Vec<io::Result<Bytes>> = bytes
            .chunks(1 << 20)
            .map(|c| Ok(Bytes::copy_from_slice(c)))
            .collect();
        let error = at
            .store
            .put_stream(announced, stream::iter(chunks))
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Mismatch { .. }), "{error:?}");
        assert!(
            error.to_string().contains(&announced.digest.to_string()),
            "{error}"
        );
    }
    assert_eq!(at.blobs(), Vec::<String>::new());
}

#[tokio::test]
async fn an_interrupted_stream_leaves_nothing() {
    let at = folder();
    let bytes = Bytes::from(large());
    let announced = Artifact {
        digest: Digest::of(&bytes),
        bytes: bytes.len() as u64,
    };
    let mut chunks: Vec<io::Result<Bytes>> = bytes
        .chunks(1 << 20)
        .map(|c| Ok(Bytes::copy_from_slice(c)))
        .collect();
    chunks.truncate(15);
    chunks.push(Err(io::ErrorKind::ConnectionReset.into()));
    let error = at
        .store
        .put_stream(announced, stream::iter(chunks))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error:?}");
    assert_eq!(at.blobs(), Vec::<String>::new());
}

#[tokio::test]
async fn a_damaged_or_missing_blob_is_named_and_no_file_appears() {
    let at = folder();
    let artifact = at.store.put_bytes("whole").await.unwrap();
    fs::write(at.local("a/b/blobs").join(artifact.digest.to_string()), "whale").unwrap();
    let out = at.local("out");
    let error = at.store.get_to_file(artifact.digest, &out).await.unwrap_err();
    assert!(
        matches!(error, Error::Damaged { digest, .. } if digest == artifact.digest),
        "{error:?}"
    );
    let absent = Digest::of(b"never stored");
    let error = at.store.get_to_file(absent, &out).await.unwrap_err();
    assert!(
        matches!(error, Error::BlobMissing(digest) if digest == absent),
        "{error:?}"
    );
    assert!(!out.exists());
    // Neither is a partial file left in the folder.
    assert_eq!(fs::read_dir(at.dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn manifests_are_listed_by_kind_and_read_back() {
    let at = folder();
    let model = |version| Manifest::Model("digits".parse().unwrap(), version);
    let backbone = Manifest::Backbone(BackboneName::Lite0);
    assert_eq!(at.store.list_manifests(Kind::Model).await.unwrap(), []);
    for (manifest, content) in [
        (model(2), "two"),
        (model(1), "old"),
        (model(1), "one"),
        (backbone.clone(), "backbone"),
    ] {
        at.store.write_manifest(&manifest, &content).await.unwrap();
    }
    fs::write(at.local("a/b/models/README"), "not ours").unwrap();
    assert_eq!(
        at.store.list_manifests(Kind::Model).await.unwrap(),
        [model(1), model(2)]
    );
    assert_eq!(at.store.list_manifests(Kind::Backbone).await.unwrap(), [backbone]);
    assert_eq!(at.store.read_manifest::<String>(&model(1)).await.unwrap(), "one");
    let error = at.store.read_manifest::<String>(&model(3)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "models/digits/3.json is not in the artifact store"
    );
    fs::write(
        at.local("a/b/models/digits/2.json"),
        r#"{"format": 9, "content": "two"}"#,
    )
    .unwrap();
    let error = at.store.read_manifest::<String>(&model(2)).await.unwrap_err();
    assert!(matches!(error, Error::BadManifest { .. }), "{error:?}");
}

#[tokio::test]
async fn a_place_that_cannot_be_a_store_is_refused() {
    let at = folder();
    fs::write(at.local("file"), "").unwrap();
    let inside_a_file = Url::from_directory_path(at.local("file/x")).unwrap();
    assert!(matches!(
        ArtifactStore::open(&inside_a_file),
        Err(Error::Unreachable { .. })
    ));
    let unknown: Url = "gopher://somewhere/".parse().unwrap();
    assert!(matches!(
        ArtifactStore::open(&unknown),
        Err(Error::Unreachable { .. })
    ));
    assert!(matches!(location("not a url://"), Err(Error::NotAUrl { .. })));
    assert_eq!(
        location("/var/artifacts").unwrap().as_str(),
        "file:///var/artifacts/"
    );
}

#[tokio::test]
async fn a_blob_that_is_removed_is_gone_and_can_be_stored_again() {
    let at = folder();
    let blob = at.store.put_bytes("checkpoint").await.unwrap();
    at.store.remove(blob.digest).await.unwrap();
    assert!(!at.store.contains(blob.digest).await.unwrap());
    at.store.remove(blob.digest).await.unwrap();
    assert_eq!(at.store.put_bytes("checkpoint").await.unwrap(), blob);
    assert!(at.store.contains(blob.digest).await.unwrap());
}

#[tokio::test]
async fn objects_of_journals_are_listed_in_order_and_read_back() {
    let at = folder();
    assert_eq!(at.store.list_journals().await.unwrap(), []);
    let object = |incarnation, first, last| JournalObject {
        incarnation: Incarnation::new(incarnation),
        first,
        last,
    };
    let (snapshot, small, large) = (object(1, 0, 8), object(1, 9, 9), object(1, 10, 1_000));
    let other = object(0xF0, 1, 2);
    for object in [large, other, small, snapshot] {
        let content = Bytes::from(object.path());
        at.store.write_journal(object, content).await.unwrap();
    }
    let folder = at.local("a/b/journal/0000000000000001");
    // A write that was cut off, and what is not ours.
    for name in [
        "00000000000000000011-00000000000000000012.jsonl#1",
        "README",
        "1-2.jsonl",
    ] {
        fs::write(folder.join(name), "x").unwrap();
    }
    let listed = at.store.list_journals().await.unwrap();
    assert_eq!(listed, [snapshot, small, large, other]);
    for object in listed {
        assert_eq!(at.store.read_journal(object).await.unwrap(), object.path());
    }
    at.store.remove_journal(small).await.unwrap();
    at.store.remove_journal(small).await.unwrap();
    let error = at.store.read_journal(small).await.unwrap_err();
    assert!(
        matches!(&error, Error::JournalMissing(path) if *path == small.path()),
        "{error:?}"
    );
    assert_eq!(at.store.list_journals().await.unwrap(), [snapshot, large, other]);
}

#[tokio::test]
async fn an_object_of_a_journal_is_written_and_read_in_pieces_in_full_or_not_at_all() {
    let at = folder();
    let object = |last| JournalObject {
        incarnation: Incarnation::new(1),
        first: 0,
        last,
    };
    let bytes = Bytes::from(large());
    for (last, bytes) in [
        (1, Bytes::from_static(b"small")),
        (2, bytes.clone()),
        (2, bytes.slice(5..)),
    ] {
        let size = bytes.len() as u64;
        let pieces = bytes.chunks(3_000_000).map(Bytes::copy_from_slice);
        let pieces = stream::iter(pieces.map(Ok::<_, Error>));
        assert_eq!(
            at.store.write_large_journal(object(last), pieces).await.unwrap(),
            size
        );
        let read = at.store.read_large_journal(object(last)).await.unwrap();
        let pieces: Vec<Bytes> = read.try_collect().await.unwrap();
        assert!(pieces.iter().all(|piece| piece.len() <= 1 << 20));
        assert!(pieces.concat() == bytes);
    }
    // What cannot be made leaves what was there, and nothing beside.
    let half = [Ok(bytes.clone()), Err(Error::JournalMissing("on purpose".into()))];
    let error = at.store.write_large_journal(object(2), stream::iter(half)).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "on purpose is not in the artifact store"
    );
    let folder = at.local("a/b/journal/0000000000000001");
    assert_eq!(fs::read_dir(folder).unwrap().count(), 2);
    assert!(at.store.read_journal(object(2)).await.unwrap() == bytes.slice(5..));
    let error = at
        .store
        .read_large_journal(object(3))
        .await
        .map(drop)
        .unwrap_err();
    assert!(matches!(error, Error::JournalMissing(_)), "{error:?}");
}
