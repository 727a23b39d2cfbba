//! `glyph topology`: the exchanges and queues on RabbitMQ.

use clap::Subcommand;
use serde_json::json;

use super::{
    CliError, Output,
    connect::{amqp, open_store},
};
use crate::{
    amqp::{AmqpSettings, Declared, adopt_prefix, declare_topology},
    settings::{Services, Settings},
};

/// Verbs on exchanges and queues.
#[derive(Clone, Debug, Subcommand)]
pub enum TopologyVerb {
    /// Declare every exchange and queue of the prefix, for workers whose account may not declare;
    /// tells what was made and what differs
    Declare {
        /// Delete and declare exchanges that differ, as one without an alternate exchange; publishing
        /// to them fails for a moment. Queues and their messages stay as they are
        #[arg(long)]
        replace: bool,
    },
    /// Take the prefix over from another deployment that is gone; its workers, if there are any left,
    /// stop taking commands
    Adopt,
}

pub(super) async fn run(
    verb: TopologyVerb,
    settings: &Settings,
    output: Output,
) -> Result<(), CliError> {
    let broker = broker(settings).await?;
    match verb {
        TopologyVerb::Declare { replace } => {
            let declared = declare_topology(&broker, replace).await?;
            output.result(&declared, || text(&declared, &broker));
        }
        TopologyVerb::Adopt => {
            adopt_prefix(&broker).await?;
            let prefix = broker.topology().prefix();
            output.result(
                &json!({"prefix": prefix, "deployment": broker.deployment}),
                || format!("the prefix {prefix} belongs to the deployment of this database"),
            );
        }
    }
    Ok(())
}

/// The broker, with the deployment of the database that its names are for.
async fn broker(settings: &Settings) -> Result<AmqpSettings, CliError> {
    let Services::Postgres { broker, .. } = settings.services()? else {
        let text =
            "the embedded queue has no exchanges and queues to declare; AMQP_URL names a RabbitMQ";
        return Err(CliError::Usage(text.to_owned()));
    };
    let mut broker = amqp(&broker, settings)?;
    broker.deployment = Some(open_store(settings).await?.deployment().await?);
    Ok(broker)
}

fn text(declared: &Declared, broker: &AmqpSettings) -> String {
    let mut lines = Vec::new();
    let mut tell = |what: &str, names: &[String]| {
        lines.extend(names.iter().map(|name| format!("{what:<12} {name}")));
    };
    tell("made", &declared.made);
    tell("differs", &declared.differs);
    tell("not allowed", &declared.not_allowed);
    if lines.is_empty() {
        lines.push("everything is there, as it is to be".to_owned());
    }
    if declared.loses_mistyped_keys(broker.topology()) {
        lines.push(format!(
            "commands with a mistyped key are lost at exchange {}: add --replace",
            broker.topology().commands()
        ));
    }
    lines.join("\n")
}
