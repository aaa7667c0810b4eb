//! Data that lie elsewhere: copied from an object store into a folder of this machine, which is removed in the end.
//!
//! Where the store can list (`s3://`, `gs://`, `az://`, and `http(s)://` servers that speak WebDAV), everything under
//! the address is copied. Other web servers cannot: there, a table or annotations say which images to fetch, and CIFAR
//! and MNIST have known names.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::{ProgressBar, ProgressStyle};
use nettailor_domain::task::DataFormat;
use object_store::path::Path as Key;
use object_store::{ObjectStore, ObjectStoreExt as _, parse_url_opts};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use url::Url;

use super::formats::{cifar, decathlon, manifest, mnist};
use super::{Error, recognise};
use crate::ambient;
use crate::output::Console;
use crate::quantity::{bytes, plural};

/// Addresses that can be read.
const SCHEMES: [&str; 7] = ["s3", "s3a", "gs", "az", "abfss", "http", "https"];
/// Objects fetched side by side: enough to hide a store's latency for small images.
const PARALLEL: usize = 16;
/// Folder of copies under the cache folder.
const FOLDER: &str = "copies";
/// Held for as long as a copy is in use, so that what a killed process left can be told from what another one uses.
const LOCK: &str = "lock";

/// Where data lie that are given by an address.
#[derive(Debug)]
pub(super) enum Location {
    /// On this machine.
    Here(PathBuf),
    /// In an object store.
    Elsewhere(Url),
}

/// Reads `path` as an address, if it is one.
pub(super) fn location(path: &str) -> Result<Option<Location>, Error> {
    if !path.contains("://") {
        return Ok(None);
    }
    let wrong = |problem: String| Error::Address {
        url: path.to_owned(),
        problem,
    };
    let url: Url = path
        .parse()
        .map_err(|error| wrong(format!("this is no address: {error}")))?;
    if url.scheme() == "file" {
        let here = url.to_file_path();
        let here =
            here.map_err(|()| wrong("expected file:// and an absolute path of this machine".to_owned()))?;
        return Ok(Some(Location::Here(here)));
    }
    if SCHEMES.contains(&url.scheme()) {
        return Ok(Some(Location::Elsewhere(url)));
    }
    Err(wrong(format!(
        "expected a path, or an address that begins with file, {}",
        SCHEMES.join(", ")
    )))
}

/// Data that were copied to this machine. Dropping it removes them.
#[derive(Debug)]
pub(super) struct Copy {
    folder: TempDir,
    /// What was asked for, inside of the folder.
    path: PathBuf,
    /// Freed by the operating system if this process dies.
    _lock: File,
}

impl Copy {
    /// The copied folder or file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Copies what lies at `url`.
pub(super) fn copy(url: &Url, format: DataFormat, console: &Console) -> Result<Copy, Error> {
    let copies = ambient::cache_dir().map_or_else(ambient::temporary_dir, |cache| cache.join(FOLDER));
    let mut copy = make_folder(&copies, url)?;
    // Large files take their time; what counts is whether anything arrives.
    let options = [
        ("allow_http", "true"),
        ("timeout", "1day"),
        ("read_timeout", "1min"),
    ];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let options = ambient::object_store_settings().into_iter().chain(options);
    let (store, root) = parse_url_opts(url, options).map_err(|source| refused(url, None, source))?;
    let fetch = Fetch {
        store: store.into(),
        root,
        url: url.clone(),
        folder: copy.folder.path().join("data"),
        bar: progress(console, url),
    };
    let fetched = tokio::runtime::Handle::current().block_on(fetch.all(format));
    fetch.bar.finish_and_clear();
    copy.path = fetched?;
    Ok(copy)
}

/// Makes a folder for a copy in `parent`; removes those that nobody uses any more.
fn make_folder(parent: &Path, url: &Url) -> Result<Copy, Error> {
    let refused = |path: &Path| {
        let (path, url) = (path.to_owned(), url.to_string());
        move |source| Error::Keep { url, path, source }
    };
    fs::create_dir_all(parent).map_err(refused(parent))?;
    // Held until this copy has its own: nobody must take it for one that is left over.
    let making = File::create(parent.join(LOCK)).map_err(refused(parent))?;
    making.lock().map_err(refused(parent))?;
    for left in fs::read_dir(parent).into_iter().flatten().flatten() {
        let unused = File::open(left.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
        if unused {
            // Another process may be removing it, too.
            fs::remove_dir_all(left.path()).ok();
        }
    }
    let folder = tempfile::Builder::new()
        .prefix("data-")
        .tempdir_in(parent)
        .map_err(refused(parent))?;
    let lock = File::create(folder.path().join(LOCK)).map_err(refused(folder.path()))?;
    lock.lock().map_err(refused(folder.path()))?;
    Ok(Copy {
        path: folder.path().to_owned(),
        folder,
        _lock: lock,
    })
}

fn progress(console: &Console, url: &Url) -> ProgressBar {
    if !console.live() {
        console.note(format_args!("copying {url}"));
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("copying {msg} {spinner} {pos} files");
    let bar = ProgressBar::new_spinner().with_message(url.to_string());
    bar.set_style(style.expect("the template is valid"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn refused(url: &Url, hint: Option<&str>, source: object_store::Error) -> Error {
    Error::Fetch {
        url: url.to_string(),
        hint: hint.map(str::to_owned),
        source: Box::new(source),
    }
}

/// An object to copy.
struct Wanted {
    key: Key,
    /// Of the copy, relative to its folder.
    name: String,
    /// As the store lists it, in bytes. None where only a name is known: then there may be no object.
    size: Option<u64>,
}

/// One copy in the making.
struct Fetch {
    store: Arc<dyn ObjectStore>,
    /// The address within the store.
    root: Key,
    url: Url,
    folder: PathBuf,
    bar: ProgressBar,
}

impl Fetch {
    /// Copies what is asked for; returns where it lies.
    async fn all(&self, format: DataFormat) -> Result<PathBuf, Error> {
        let name = self.root.filename().unwrap_or_default().to_owned();
        let named = recognise::of_file(&name);
        match (format, named) {
            (DataFormat::Auto, Some(found)) => self.file(&name, found).await,
            (asked, Some(found)) if asked == found => self.file(&name, found).await,
            _ => self.folder(format).await,
        }
    }

    /// Copies a file and what it names.
    async fn file(&self, name: &str, format: DataFormat) -> Result<PathBuf, Error> {
        let parent = parent(&self.root);
        match format {
            DataFormat::Csv => {
                let here = self.folder.join(name);
                self.get(&self.root, &here).await?;
                let text = fs::read(&here).map_err(Error::read(&here))?;
                let rows = manifest::rows(&here, &text)?;
                self.named(&parent, rows.iter().map(|row| row.path.as_str()))
                    .await?;
                Ok(here)
            }
            DataFormat::Decathlon => self.annotations(name, &parent).await,
            DataFormat::Mnist => {
                let set = name.split_once("train-images").map_or("", |(set, _)| set);
                self.known(&parent, &mnist::files(set)).await?;
                Ok(self.folder.join(name))
            }
            _ => {
                let here = self.folder.join(name);
                self.get(&self.root, &here).await?;
                Ok(here)
            }
        }
    }

    async fn annotations(&self, name: &str, annotations: &Key) -> Result<PathBuf, Error> {
        let folder = self.folder.join(decathlon::ANNOTATIONS);
        let root = parent(annotations);
        let set = decathlon::set_of(name).unwrap_or_default();
        let mut files = vec![folder.join(name)];
        self.get(&self.root, &files[0]).await?;
        for (_, names) in decathlon::companions(set) {
            for name in names {
                let here = folder.join(&name);
                let got = self.stream(&annotations.clone().join(name), &here).await?;
                if got.is_some() {
                    files.push(here);
                    break;
                }
            }
        }
        for path in &files {
            let text = fs::read(path).map_err(Error::read(path))?;
            let listed = decathlon::Annotations::parse(path, &text)?;
            self.named(&root, listed.files()).await?;
        }
        Ok(folder.join(name))
    }

    /// Copies everything under the address.
    async fn folder(&self, format: DataFormat) -> Result<PathBuf, Error> {
        let listed: Result<Vec<_>, _> = self.store.list(Some(&self.root)).try_collect().await;
        match listed {
            Ok(objects) if !objects.is_empty() => {
                let size = objects.iter().map(|object| object.size).sum();
                let count = plural(objects.len(), "file");
                self.bar
                    .set_message(format!("{} ({count}, {})", self.url, bytes(size)));
                let keys = objects.into_iter().filter_map(|object| {
                    let below: Vec<String> = object
                        .location
                        .prefix_match(&self.root)?
                        .map(|part| part.as_ref().to_owned())
                        .collect();
                    (!below.is_empty()).then(|| Wanted {
                        key: object.location.clone(),
                        name: below.join("/"),
                        size: Some(object.size),
                    })
                });
                self.objects(keys.collect()).await?;
                Ok(self.folder.clone())
            }
            unlisted => {
                if matches!(self.url.scheme(), "http" | "https") && self.known_format(format).await? {
                    return Ok(self.folder.clone());
                }
                let hint = "where a web server lists no files, give the address of a *.csv, a *.parquet or an \
                            annotations/*_train.json, or of a folder of CIFAR or MNIST files";
                let source = unlisted.err().unwrap_or_else(|| object_store::Error::NotFound {
                    path: self.root.to_string(),
                    source: "nothing lies there".into(),
                });
                Err(refused(&self.url, Some(hint), source))
            }
        }
    }

    /// Copies the files that formats have of fixed names; whether there were any.
    async fn known_format(&self, format: DataFormat) -> Result<bool, Error> {
        let cifar = |variant: &cifar::Variant| {
            let names = variant.train.iter().chain([&variant.names, &variant.test]);
            names.map(|name| (*name).to_owned()).collect::<Vec<_>>()
        };
        let candidates = [
            (DataFormat::Cifar10, cifar(&cifar::TEN)),
            (DataFormat::Cifar100, cifar(&cifar::HUNDRED)),
            (DataFormat::Mnist, mnist::files("")),
        ];
        let mut found = false;
        for (candidate, names) in candidates {
            if [DataFormat::Auto, candidate].contains(&format) {
                found |= self.known(&self.root, &names).await?;
            }
        }
        Ok(found)
    }

    /// Copies those of the files that there are; whether there were any.
    async fn known(&self, parent: &Key, names: &[String]) -> Result<bool, Error> {
        let mut found = false;
        for name in names {
            let got = self
                .stream(&parent.clone().join(name.as_str()), &self.folder.join(name))
                .await?;
            found |= got.is_some();
        }
        Ok(found)
    }

    /// Copies the files that another file names. Absent ones are left out: whoever lists the copy says which.
    async fn named<'a>(&self, parent: &Key, names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        let mut keys = HashMap::new();
        for name in names {
            let name = manifest::normalised(name).ok_or_else(|| Error::Address {
                url: self.url.to_string(),
                problem: format!("it names `{name}`; expected names of files below it"),
            })?;
            let key = name.split('/').fold(parent.clone(), |key, part| key.join(part));
            keys.insert(name, key);
        }
        let wanted = |(name, key)| Wanted {
            key,
            name,
            size: None,
        };
        self.objects(keys.into_iter().map(wanted).collect()).await
    }

    async fn objects(&self, wanted: Vec<Wanted>) -> Result<(), Error> {
        let fetched = stream::iter(wanted).map(|wanted| self.object(wanted));
        fetched
            .buffer_unordered(PARALLEL)
            .try_for_each(|()| async { Ok(()) })
            .await
    }

    /// Copies an object. One that the store lists must be there, with as many bytes as listed.
    async fn object(&self, wanted: Wanted) -> Result<(), Error> {
        let got = self.stream(&wanted.key, &self.folder.join(&wanted.name)).await?;
        let found = match (wanted.size, got) {
            (None, _) => return Ok(()),
            // What object stores keep in place of a folder is listed with a slash at its end, and not found without.
            (Some(0), None) => return Ok(()),
            (Some(listed), Some(got)) if listed == got => return Ok(()),
            (Some(_), None) => "is not there".to_owned(),
            (Some(listed), Some(got)) => format!("has {got} bytes instead of {listed}"),
        };
        Err(Error::Fetch {
            url: self.url.to_string(),
            hint: Some("try again once nobody writes there".to_owned()),
            source: format!("{} is listed and {found}", wanted.key).into(),
        })
    }

    /// Copies an object that must be there.
    async fn get(&self, key: &Key, here: &Path) -> Result<(), Error> {
        if self.stream(key, here).await?.is_some() {
            return Ok(());
        }
        let (path, source) = (key.to_string(), format!("there is no {key}").into());
        Err(refused(
            &self.url,
            None,
            object_store::Error::NotFound { path, source },
        ))
    }

    /// Copies an object, if there is one; returns its size in bytes.
    async fn stream(&self, key: &Key, here: &Path) -> Result<Option<u64>, Error> {
        let keep = |source| Error::Keep {
            url: self.url.to_string(),
            path: here.to_owned(),
            source,
        };
        let got = match self.store.get(key).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            got => got.map_err(|source| refused(&self.url, None, source))?,
        };
        let parent = here.parent().unwrap_or(Path::new(""));
        tokio::fs::create_dir_all(parent).await.map_err(keep)?;
        let mut file = tokio::fs::File::create(here).await.map_err(keep)?;
        let mut chunks = got.into_stream();
        let mut size = 0;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|source| refused(&self.url, None, source))?;
            file.write_all(&chunk).await.map_err(keep)?;
            size += chunk.len() as u64;
        }
        file.flush().await.map_err(keep)?;
        self.bar.inc(1);
        Ok(Some(size))
    }
}

fn parent(key: &Key) -> Key {
    let parts: Vec<_> = key.parts().collect();
    parts[..parts.len().saturating_sub(1)].iter().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_that_nobody_uses_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let url: Url = "s3://bucket/images".parse().unwrap();
        let used = make_folder(parent.path(), &url).unwrap();
        // What a killed process left: its folder, and a lock that nobody holds.
        let left = parent.path().join("data-left");
        fs::create_dir_all(left.join("data")).unwrap();
        fs::write(left.join(LOCK), b"").unwrap();
        let next = make_folder(parent.path(), &url).unwrap();
        assert!(!left.exists());
        let path = used.path().to_owned();
        assert!(path.is_dir() && next.path().is_dir() && path != next.path());
        drop(used);
        assert!(!path.exists());
    }

    #[test]
    fn addresses_are_told_from_paths() {
        for path in ["images", "/images", "C:/images", "a:b"] {
            assert!(location(path).unwrap().is_none(), "{path}");
        }
        assert!(
            matches!(location("file:///a%20b"), Ok(Some(Location::Here(path))) if path == Path::new("/a b"))
        );
        assert!(matches!(
            location("s3://bucket/a"),
            Ok(Some(Location::Elsewhere(_)))
        ));
        for (wrong, said) in [
            ("file://host/a", "absolute path"),
            ("ftp://a/b", "begins with file, s3"),
            ("http://[", "no address"),
        ] {
            let error = location(wrong).unwrap_err().to_string();
            assert!(error.starts_with(wrong) && error.contains(said), "{error}");
        }
    }
}
