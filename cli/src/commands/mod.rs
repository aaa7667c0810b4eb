//! One file per verb. A command reads its arguments, asks, prints; everything else is done elsewhere.

pub(crate) mod backbone;
pub(crate) mod completions;
pub(crate) mod dataset;
pub(crate) mod explain;
pub(crate) mod jobs;
pub(crate) mod registry;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod submit;
pub(crate) mod users;
pub(crate) mod validate;
pub(crate) mod workers;

use crate::args::{Args, Command, Global};
use crate::client::{Client, speaks_grpc};
use crate::embedded::Embedded;
use crate::error::Error;
use crate::output::Console;

/// Executes what was typed.
pub(crate) async fn run(args: Args) -> Result<(), Error> {
    let Args { global, command } = args;
    let console = Console::new(global.output, global.no_color, global.quiet);
    let remote = global.local.is_none() && !matches!(command, Command::Run(_));
    match execute(command, &global, &console).await {
        // Who answers there is asked only where something went wrong: everything else need not wait for it.
        Err(error)
            if remote && error.is_strange() && speaks_grpc(&global.coordinator).await == Some(false) =>
        {
            Err(Error::NoCoordinator {
                url: global.coordinator,
            })
        }
        result => result,
    }
}

async fn execute(command: Command, global: &Global, console: &Console) -> Result<(), Error> {
    match command {
        Command::Run(args) => run::run(args, global, console).await,
        Command::Validate(args) => validate::run(args, console).await,
        Command::Dataset(command) => dataset::run(command, console).await,
        Command::Schema => schema::run(console),
        Command::Completions(args) => completions::run(&args, console),
        Command::Submit(args) => submit::run(args, global, console).await,
        Command::Jobs(command) => jobs::run(command, global, console).await,
        Command::Workers(command) => workers::run(command, global, console).await,
        Command::Users(command) => users::run(command, global, console).await,
        Command::Explain(args) => explain::run(args, global, console).await,
        Command::Registry(command) => registry::run(command, global, console).await,
        Command::Backbone(command) => backbone::run(command, global, console).await,
    }
}

/// A coordinator to talk to: another process, or one that lives as long as this command.
struct Connection {
    client: Client,
    embedded: Option<Embedded>,
}

impl Connection {
    /// Connects to the coordinator, or opens the state directory, that the global options name.
    async fn open(global: &Global) -> Result<Self, Error> {
        match &global.local {
            None => Ok(Self {
                client: Client::connect(&global.coordinator).await?,
                embedded: None,
            }),
            Some(state) => Self::to(Embedded::open_existing(state).await?).await,
        }
    }

    /// Like [`Connection::open`]; makes the state directory if there is none.
    async fn open_or_create(global: &Global) -> Result<Self, Error> {
        match &global.local {
            Some(state) => Self::to(Embedded::open(state).await?).await,
            None => Self::open(global).await,
        }
    }

    async fn to(embedded: Embedded) -> Result<Self, Error> {
        Ok(Self {
            client: Client::connect(embedded.url()).await?,
            embedded: Some(embedded),
        })
    }

    /// Closes what was opened for this command, and passes its result on.
    async fn close<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        let Self { client, embedded } = self;
        // The coordinator need not wait for this connection.
        drop(client);
        match embedded {
            None => result,
            Some(embedded) => {
                let closed = embedded.close().await;
                // An error of the command says more than one that follows from it.
                result.and_then(|value| closed.map(|()| value).map_err(Error::from))
            }
        }
    }
}
