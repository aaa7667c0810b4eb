//! A coordinator that says what the test tells it to say.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use nettailor_domain::ids::Seat;
use nettailor_domain::session::Order;
use nettailor_proto::convert::session::{FromAgent, FromCoordinator, Hello};
use nettailor_proto::status::{Code, Error};
use nettailor_proto::v1;
use nettailor_proto::v1::workers_server::{Workers, WorkersServer};
use nettailor_proto::v1::{AgentMessage, CoordinatorMessage, ListWorkersRequest, ListWorkersResponse};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Nothing that a test waits for takes this long, unless it never comes.
const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for something that must happen.
pub(crate) async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    timeout(DEADLINE, event)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// Listens for agents.
pub(crate) struct Coordinator {
    address: SocketAddr,
    sessions: mpsc::Receiver<Session>,
}

/// One agent's session, Hello read.
pub(crate) struct Session {
    pub(crate) hello: Hello,
    heard: Streaming<AgentMessage>,
    say: mpsc::Sender<Result<CoordinatorMessage, Status>>,
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (sender, sessions) = mpsc::channel(4);
        let server = tonic::transport::Server::builder().add_service(WorkersServer::new(Edge { sender }));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { address, sessions }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next session.
    pub(crate) async fn session(&mut self) -> Session {
        soon("a session", self.sessions.recv())
            .await
            .expect("the server lives")
    }

    /// The next session, welcomed.
    pub(crate) async fn welcome(&mut self, artifacts_url: &str) -> Session {
        let session = self.session().await;
        let artifacts_url = artifacts_url.to_owned();
        session
            .say(FromCoordinator::Welcome {
                artifacts_url,
                heartbeat: Duration::from_millis(50),
            })
            .await;
        session
    }
}

impl Session {
    pub(crate) async fn say(&self, message: FromCoordinator) {
        self.say
            .send(Ok(message.into()))
            .await
            .expect("the session lives");
    }

    pub(crate) async fn assign(&self, order: Order) {
        self.say(FromCoordinator::Assign(Box::new(order))).await;
    }

    /// Ends the session with an error.
    pub(crate) async fn refuse(self, code: Code) {
        self.say
            .send(Err(Error::new(code, "as the test wants").into()))
            .await
            .expect("the session lives");
    }

    /// What the agent says next; `None` if it leaves.
    pub(crate) async fn next(&mut self) -> Option<FromAgent> {
        let message = soon("a message", self.heard.message()).await.ok().flatten();
        message.map(|message| message.try_into().expect("the agent says sensible things"))
    }

    /// The first thing the agent says that `wanted` turns into something.
    pub(crate) async fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(FromAgent) -> Option<T>) -> T {
        let search = async {
            loop {
                let message = self
                    .heard
                    .message()
                    .await
                    .expect("the stream lives")
                    .expect("the agent goes on");
                if let Some(found) = wanted(message.try_into().expect("the agent says sensible things")) {
                    return found;
                }
            }
        };
        soon(what, search).await
    }

    /// The report of `seat`.
    pub(crate) async fn report(&mut self, seat: Seat) -> FromAgent {
        let wanted = |said: FromAgent| match &said {
            FromAgent::Finished { seat: it, .. } | FromAgent::Failed { seat: it, .. } => {
                (*it == seat).then_some(said)
            }
            _ => None,
        };
        self.until("a report", wanted).await
    }

    /// Waits until the attempt's log says `word`, and returns what follows it on that line.
    pub(crate) async fn log(&mut self, word: &str) -> String {
        let found = |said: FromAgent| match said {
            FromAgent::Log { lines, .. } => lines
                .iter()
                .find_map(|line| line.strip_prefix(word))
                .map(|rest| rest.trim().to_owned()),
            _ => None,
        };
        self.until(word, found).await
    }
}

struct Edge {
    sender: mpsc::Sender<Session>,
}

#[tonic::async_trait]
impl Workers for Edge {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut heard = request.into_inner();
        let first = heard.message().await?.expect("the agent says hello");
        let FromAgent::Hello(hello) = first.try_into()? else {
            panic!("expected Hello first")
        };
        let (say, messages) = mpsc::channel(16);
        self.sender
            .send(Session { hello, heard, say })
            .await
            .map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }

    async fn cordon(&self, _: Request<v1::CordonRequest>) -> Result<Response<v1::Worker>, Status> {
        Err(Status::unimplemented("no agent asks for it"))
    }

    async fn drain(&self, _: Request<v1::CordonRequest>) -> Result<Response<v1::Worker>, Status> {
        Err(Status::unimplemented("no agent asks for it"))
    }

    async fn uncordon(&self, _: Request<v1::UncordonRequest>) -> Result<Response<v1::Worker>, Status> {
        Err(Status::unimplemented("no agent asks for it"))
    }

    async fn explain(
        &self,
        _: Request<v1::ExplainWorkerRequest>,
    ) -> Result<Response<v1::Explanation>, Status> {
        Err(Status::unimplemented("no agent asks for it"))
    }

    async fn list(&self, _: Request<ListWorkersRequest>) -> Result<Response<ListWorkersResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}
