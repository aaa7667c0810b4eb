//! The coordinator as seen from here: one method per call, domain types and views in and out.
//!
//! [`jobs`], [`workers`] (and who pays for what runs on them) and [`registry`] have the calls of their services.

mod jobs;
mod registry;
mod workers;

use std::error::Error as _;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use nettailor_domain::explain::Explanation;
use nettailor_domain::ids::Digest;
use nettailor_domain::stage::Artifact;
use nettailor_proto::limits::MAX_MESSAGE_BYTES;
use nettailor_proto::v1::artifacts_client::ArtifactsClient;
use nettailor_proto::{convert, status, v1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};
use url::Url;

use crate::error::Error;

pub(crate) use jobs::{JobEvent, Terms};
pub(crate) use workers::Share;

/// Longest wait for a connection; on a sound network it takes milliseconds.
const CONNECT: Duration = Duration::from_secs(5);
/// A silent connection is asked for a sign of life this often, so that a dead peer is noticed while nothing is sent.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How a client of HTTP/2 begins (RFC 9113, 3.4): the preface and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// Type of the frame that a server must begin with: settings.
const SETTINGS: u8 = 4;

/// A connection to a coordinator. Cheap to clone; comes back by itself after the coordinator was away.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    /// Connects to the coordinator at `url`.
    pub(crate) async fn connect(url: &str) -> Result<Self, Error> {
        let address = |source| Error::Address {
            url: url.to_owned(),
            source,
        };
        // There is no TLS yet: a URL that asks for it must not seem to get it.
        if !url.starts_with("http://") {
            return Err(address(None));
        }
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|source| address(Some(source)))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .user_agent(concat!("nettailor-cli/", env!("CARGO_PKG_VERSION")))
            .map_err(|source| address(Some(source)))?;
        let channel = endpoint.connect().await.map_err(|source| Error::Unreachable {
            url: url.to_owned(),
            source,
        })?;
        Ok(Self { channel })
    }

    fn artifacts(&self) -> ArtifactsClient<Channel> {
        ArtifactsClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Which of these blobs the artifact store lacks.
    pub(crate) async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, Error> {
        const ACTION: &str = "ask which files are already there";
        let request = v1::MissingRequest {
            digests: digests.iter().map(ToString::to_string).collect(),
        };
        let response = answer(ACTION, self.artifacts().missing(request).await)?;
        understood(ACTION, convert::parse_all(&response.digests, "digests"))
    }

    /// Stores one blob: `chunks` are its bytes in order, each at most [`nettailor_proto::limits::CHUNK_BYTES`].
    pub(crate) async fn upload(
        &self,
        artifact: Artifact,
        chunks: impl Stream<Item = Vec<u8>> + Send + 'static,
    ) -> Result<(), status::Error> {
        use v1::upload_request::Part;
        let message = |part| v1::UploadRequest { part: Some(part) };
        let head = futures::stream::iter([message(Part::Artifact(artifact.into()))]);
        let parts = head.chain(chunks.map(move |chunk| message(Part::Chunk(chunk))));
        self.artifacts().upload(parts).await?;
        Ok(())
    }
}

/// Whether what listens at `url` speaks gRPC, as every coordinator does. `None` where that cannot be told: nothing listens
/// there, or nothing is said.
pub(crate) async fn speaks_grpc(url: &str) -> Option<bool> {
    let asked = async {
        if !begins_http2(url).await? {
            return Some(false);
        }
        let mut client = Client::connect(url).await.ok()?.artifacts();
        match client.missing(v1::MissingRequest::default()).await {
            Ok(_) => Some(true),
            // The connection broke.
            Err(status) if status.source().is_some() => None,
            // An error of gRPC comes as an answer of gRPC.
            Err(status) => {
                let kind = status.metadata().get("content-type");
                Some(kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")))
            }
        }
    };
    tokio::time::timeout(CONNECT, asked).await.ok().flatten()
}

/// Whether what listens at `url` begins a connection as servers of HTTP/2 do. Servers of something else say something else
/// first, or hang up. `None` as above.
async fn begins_http2(url: &str) -> Option<bool> {
    let url = Url::parse(url).ok()?;
    let address = (url.host_str()?.to_owned(), url.port_or_known_default()?);
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(PREFACE).await.ok()?;
    // Length, type, flags and stream of the first frame.
    let mut frame = [0; 9];
    Some(stream.read_exact(&mut frame).await.is_ok() && frame[3] == SETTINGS)
}

fn answer<T>(action: impl Into<String>, response: Result<Response<T>, Status>) -> Result<T, Error> {
    let refused = |status: Status| Error::Refused {
        action: action.into(),
        source: status.into(),
    };
    response.map(Response::into_inner).map_err(refused)
}

fn understood<T>(action: impl Into<String>, read: Result<T, convert::Error>) -> Result<T, Error> {
    read.map_err(|source| Error::Answer {
        action: action.into(),
        source,
    })
}

/// Why something stands where it stands.
fn explanation(
    action: String,
    response: Result<Response<v1::Explanation>, Status>,
) -> Result<Explanation, Error> {
    let message = answer(action.clone(), response)?;
    let read = serde_json::from_slice(&message.json);
    understood(
        action,
        read.map_err(|error| convert::Error::invalid("json", error)),
    )
}
