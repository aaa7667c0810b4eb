//! Data behind an address, from a web server in this process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::output::Format;

/// Part of the names of files that are listed and cannot be fetched.
const GHOST: &str = "ghost-";
/// A file that is listed with a byte too many.
const GROWN: &str = "grown";

/// Serves the files of `folder` for as long as the test runs; lists them (WebDAV) where `lists`. Returns its address.
fn serve(folder: &Path, lists: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let folder = folder.clone();
            // A client that hangs up is served.
            std::thread::spawn(move || answer(stream, &folder, lists).ok());
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: TcpStream, folder: &Path, lists: bool) -> io::Result<()> {
    let mut request = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    request.read_line(&mut first)?;
    let mut line = String::new();
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut words = first.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = folder.join(path.trim_start_matches('/'));
    let (status, body) = match method {
        "GET" if path.display().to_string().contains(GHOST) => ("404 Not Found", vec![]),
        "GET" => fs::read(path).map_or(("404 Not Found", vec![]), |body| ("200 OK", body)),
        "PROPFIND" if lists => ("207 Multi-Status", listing(folder, &path).into_bytes()),
        _ => ("405 Method Not Allowed", vec![]),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nLast-Modified: Mon, 23 Nov 2026 10:00:00 GMT\r\n\
         Connection: close\r\n\r\n"
    )?;
    stream.write_all(&body)
}

fn listing(root: &Path, folder: &Path) -> String {
    let mut responses = String::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let (href, size) = (
                path.strip_prefix(root).unwrap().display(),
                fs::metadata(&path).unwrap().len() + u64::from(path.ends_with(GROWN)),
            );
            responses += &format!(
                "<D:response><D:href>/{href}</D:href><D:propstat><D:prop>\
                 <D:getlastmodified>Mon, 23 Nov 2026 10:00:00 GMT</D:getlastmodified>\
                 <D:getcontentlength>{size}</D:getcontentlength><D:resourcetype/>\
                 </D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
            );
        }
    }
    format!("<?xml version=\"1.0\"?><D:multistatus xmlns:D=\"DAV:\">{responses}</D:multistatus>")
}

fn open_at(url: &str, format: DataFormat) -> Result<DataSet, Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let url = url.to_owned();
    let opened = runtime.spawn(async move {
        let console = Console::new(Format::Json, true, true);
        tokio::task::spawn_blocking(move || open(Path::new("nowhere"), &url, format, &console)).await
    });
    runtime.block_on(opened).unwrap().unwrap()
}

/// Data of which every kind of address is tried.
fn data() -> tempfile::TempDir {
    let images = [1, 2, 3].map(pgm);
    let folder = folder(&[
        ("folder/train/a/1.pgm", &images[0]),
        ("folder/train/b/2.pgm", &images[1]),
        ("folder/val/b/3.pgm", &images[2]),
        ("csv/table.csv", b"path,label\nx/1.pgm,a\nx/2.pgm,b\n"),
        ("csv/x/1.pgm", &images[0]),
        ("csv/x/2.pgm", &images[1]),
        (
            "coco/annotations/s_train.json",
            &coco(&[("s/1.pgm", 3), ("s/2.pgm", 7)]),
        ),
        ("coco/annotations/s_val.json", &coco(&[("s/3.pgm", 7)])),
        ("coco/s/1.pgm", &images[0]),
        ("coco/s/2.pgm", &images[1]),
        ("coco/s/3.pgm", &images[2]),
        ("mnist/train-images-idx3-ubyte", &idx(&[2, 1, 1], &[1, 2])),
        ("mnist/train-labels-idx1-ubyte", &idx(&[2], &[0, 1])),
        ("mnist/t10k-images-idx3-ubyte", &idx(&[1, 1, 1], &[3])),
        ("mnist/t10k-labels-idx1-ubyte", &idx(&[1], &[1])),
        ("kin/x-train-images-idx3-ubyte", &idx(&[2, 1, 1], &[1, 2])),
        ("kin/x-train-labels-idx1-ubyte", &idx(&[2], &[0, 1])),
        ("kin/x-test-images.idx3-ubyte", &idx(&[1, 1, 1], &[3])),
        ("kin/x-test-labels.idx1-ubyte", &idx(&[1], &[1])),
    ]);
    let rows: [Row<'_>; 2] = [(Some(&images[0]), None, 0), (Some(&images[1]), None, 1)];
    parquet_file(
        &folder.path().join("hub/train-0.parquet"),
        &rows,
        Some(&["a", "b"]),
    );
    folder
}

#[test]
fn what_an_address_holds_is_what_lies_there() {
    let folder = data();
    let address = serve(folder.path(), false);
    for place in [
        "csv/table.csv",
        "coco/annotations/s_train.json",
        "mnist",
        "mnist/train-images-idx3-ubyte",
        "kin/x-train-images-idx3-ubyte",
        "hub/train-0.parquet",
    ] {
        let here = list(&folder.path().join(place), DataFormat::Auto)
            .unwrap()
            .measure()
            .unwrap();
        let copied = open_at(&format!("{address}/{place}"), DataFormat::Auto).unwrap();
        assert_eq!(copied.measure().unwrap(), here, "{place}");
        let tested = u64::from(copied.format == DataFormat::Mnist);
        assert_eq!(copied.count(Folder::Test), tested, "{place}");
        let file = open_at(
            &format!("file://{}/{place}", folder.path().display()),
            DataFormat::Auto,
        )
        .unwrap();
        assert_eq!(file.measure().unwrap(), here, "{place}");
    }
}

#[test]
fn a_store_that_lists_gives_whole_folders() {
    let folder = data();
    let address = serve(folder.path(), true);
    for place in ["folder", "coco", "mnist", "hub"] {
        let here = list(&folder.path().join(place), DataFormat::Auto)
            .unwrap()
            .measure()
            .unwrap();
        let copied = open_at(&format!("{address}/{place}"), DataFormat::Auto).unwrap();
        assert_eq!(copied.measure().unwrap(), here, "{place}");
    }
}

#[test]
fn what_is_listed_must_arrive_whole() {
    for (name, content, said) in [
        (
            "ghost-image",
            b"x".as_slice(),
            "ghost-image is listed and is not there",
        ),
        (GROWN, b"xyz", "grown is listed and has 3 bytes instead of 4"),
    ] {
        let folder = data();
        write(folder.path(), &[(&format!("folder/{name}"), content)]);
        let error = open_at(
            &format!("{}/folder", serve(folder.path(), true)),
            DataFormat::Auto,
        )
        .unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(said), "{error}: {cause}");
    }
    // What stands for a folder is empty, and nothing lies under its name without the slash.
    let folder = data();
    write(folder.path(), &[("folder/ghost-folder", b"")]);
    let copied = open_at(
        &format!("{}/folder", serve(folder.path(), true)),
        DataFormat::Auto,
    )
    .unwrap();
    assert_eq!(copied.images(), 3);
}

#[test]
fn a_copied_table_names_no_files_of_this_machine() {
    let folder = data();
    let image = folder.path().join("csv/x/1.pgm").display().to_string();
    write(
        folder.path(),
        &[
            ("names/1.pgm", &pgm(1)),
            (
                "names/manifest.csv",
                format!("path,label\n1.pgm,a\n{image},b\n").as_bytes(),
            ),
        ],
    );
    let error = open_at(&format!("{}/names", serve(folder.path(), true)), DataFormat::Auto).unwrap_err();
    let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    for words in [
        "in the copy of http",
        "manifest.csv, line 3",
        &format!("found `{image}`"),
    ] {
        assert!(text.contains(words), "`{words}` is missing from: {text}");
    }
}

#[test]
fn a_copy_goes_with_the_data_that_were_read_from_it() {
    let folder = data();
    let data = open_at(
        &format!("{}/csv/table.csv", serve(folder.path(), false)),
        DataFormat::Csv,
    )
    .unwrap();
    let copy = data._copy.as_ref().unwrap().path().to_owned();
    let clone = data.clone();
    drop(data);
    assert!(copy.is_file() && clone.measure().is_ok());
    drop(clone);
    assert!(!copy.exists());
}

#[test]
fn what_an_address_lacks_is_said() {
    let folder = data();
    write(
        folder.path(),
        &[
            ("bad/t.csv", b"path,label\nno.pgm,a\n"),
            ("bad/up.csv", b"path,label\n../x.pgm,a\n"),
            ("bad/root.csv", b"path,label\n/x.pgm,a\n"),
        ],
    );
    let address = serve(folder.path(), false);
    for (place, said) in [
        (
            "folder",
            vec![
                "cannot fetch",
                "/folder",
                "where a web server lists no files, give the address of a *.csv",
            ],
        ),
        ("none.csv", vec!["cannot fetch", "none.csv"]),
        ("bad/t.csv", vec!["in the copy of http", "`no.pgm`, line 2"]),
        ("bad/up.csv", vec!["it names `../x.pgm`"]),
        ("bad/root.csv", vec!["it names `/x.pgm`"]),
    ] {
        let error = open_at(&format!("{address}/{place}"), DataFormat::Auto).unwrap_err();
        let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
        let text = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
        said.iter()
            .for_each(|words| assert!(text.contains(words), "`{words}` is missing from: {text}"));
    }
}
