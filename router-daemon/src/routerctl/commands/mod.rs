//! The commands.

mod completions;
mod entities;
mod log;
mod messages;
mod path;
mod ping;
mod reload;
mod reports;
mod top;

use clap::CommandFactory;

use crate::client::{Agent, Client};
use crate::failure::{Failure, Outcome};
use crate::options::{Command, Options};
use crate::output::Output;
use crate::report::Report;

/// What most commands need: somebody to ask, and somewhere to put the answer.
pub(crate) struct Context {
    client: Client,
    agent: Agent,
    output: Output,
}

pub(crate) async fn run(options: Options) -> Outcome {
    let output = options.output.open();
    if let Command::Completions { shell } = options.command {
        return completions::print(shell, &mut Options::command(), output);
    }
    let (connection, command) = (&options.connection, options.command);
    let limit = connection.timeout;
    if matches!(command, Command::Send(_) | Command::Recv(_)) && options.target.is_elsewhere() {
        return Err(Failure::Usage(
            "messages go to addresses, not to routers: send and recv have no use for --router and \
             --edge"
                .into(),
        ));
    }
    let credentials = connection.credentials()?;
    match &command {
        Command::Send(send) => {
            // Whoever types them is not to be waited for with a connection.
            let bodies = messages::bodies(send)?;
            let mut connected = connection.connect(credentials).await?;
            let outcome = messages::send(&mut connected, limit, output, send, &bodies).await;
            return connected.close(outcome).await;
        }
        Command::Recv(receive) => {
            let mut connected = connection.connect(credentials).await?;
            let outcome = messages::receive(&mut connected, limit, output, receive).await;
            return connected.close(outcome).await;
        }
        _ => {}
    }
    let mut context = Context {
        client: Client::connect(connection, credentials).await?,
        agent: options.target.agent(),
        output,
    };
    let outcome = perform(&mut context, command).await;
    context.client.close(outcome).await
}

async fn perform(context: &mut Context, command: Command) -> Outcome {
    match command {
        Command::Status(watch) => reports::show(context, Report::Status, &watch).await,
        Command::Connections(watch) => reports::show(context, Report::Connections, &watch).await,
        Command::Links(watch) => reports::show(context, Report::Links, &watch).await,
        Command::Addresses(watch) => reports::show(context, Report::Addresses, &watch).await,
        Command::Nodes(watch) => reports::show(context, Report::Nodes, &watch).await,
        Command::AutoLinks(watch) => reports::show(context, Report::AutoLinks, &watch).await,
        Command::Tcp(watch) => reports::show(context, Report::Tcp, &watch).await,
        Command::Memory(watch) => reports::show(context, Report::Memory, &watch).await,
        Command::Log {
            command: None,
            watch,
        } => reports::show(context, Report::Log, &watch).await,
        Command::Log {
            command: Some(command),
            ..
        } => log::run(context, command).await,
        Command::Query(query) => reports::query(context, &query).await,
        Command::Read(subject) => entities::read(context, &subject).await,
        Command::Create(create) => entities::create(context, &create).await,
        Command::Update {
            subject,
            attributes,
        } => entities::update(context, &subject, &attributes).await,
        Command::Delete(subject) => entities::delete(context, &subject).await,
        Command::Types => entities::types(context).await,
        Command::Attributes { kind } => entities::attributes(context, &kind).await,
        Command::Reload => reload::run(context).await,
        Command::Ping(ping) => ping::run(context, &ping).await,
        Command::Top(top) => top::run(context, &top).await,
        Command::Path { address } => path::run(context, &address).await,
        Command::Send(_) | Command::Recv(_) | Command::Completions { .. } => {
            unreachable!("they have no use for an agent, and were done above")
        }
    }
}
