//! The AsyncAPI 3 document of the exchanges, queues and messages.
//!
//! It is made of the declarations themselves, of the kinds of command and message, and of their
//! schemas, so it cannot say anything else than they do. References are relative to the folder of
//! schemas.

use glyph_workflow_engine::command::Command;
use lapin::{
    ExchangeKind,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Map, Value, json};

use super::{
    declare::{Kind, Object, objects},
    topology::Topology,
};
use crate::{
    broker::{CommandQueue, HEADER_TRACEPARENT, RetryDelay},
    wire::{
        MessageType,
        envelope::CONTENT_TYPE,
        reasons::{HEADER_ATTEMPTS, HEADER_ERROR, HEADER_FIRST_FAILED_AT, HEADER_REASON},
    },
};

/// The version of the specification. Tools read it more widely than later ones of the same major
/// version, of which nothing is used here.
const ASYNCAPI: &str = "3.0.0";
/// The version of the bindings for AMQP 0-9-1.
const BINDING: &str = "0.3.0";
/// The prefix that the document shows, the default of `GLYPH_PREFIX`.
const PREFIX: &str = "glyph";

const DESCRIPTION: &str = "What Glyph worker reads from RabbitMQ and what it sends there, seen \
    from the worker: it receives commands and sends messages. Every name begins with the prefix of the \
    deployment (`GLYPH_PREFIX`), which is `glyph` here. `docs/messages.md` says what is promised \
    about order, duplicates and replies.";
const COMMANDS: &str = "Producers publish commands here, persistent and with confirms; the routing \
    key is the command's type. A key that names no type leads to the dead queue.";
const QUEUE_NOTE: &str = "`x-arguments` and `x-bindings` are what the worker declares.";

/// The document. `example` gives the message that stands for a kind.
pub fn asyncapi_document(example: impl Fn(MessageType) -> Value) -> Value {
    let topology = Topology::new(PREFIX);
    let objects = objects(&topology);
    let mut document = Document {
        channels: Map::new(),
        operations: Map::new(),
        messages: Map::new(),
    };
    document.replies();
    document.dead_command();
    let commands = exchange_named(&objects, &topology.commands());
    for command_type in Command::TYPES {
        document.command(command_type, &commands);
    }
    let events = exchange_named(&objects, &topology.events());
    for kind in MessageType::ALL {
        document.message(*kind, &events, &example(*kind));
    }
    for object in &objects {
        if let Kind::Queue(bindings) = &object.kind {
            document.queue(&topology, &objects, object, bindings);
        }
    }
    json!({
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "Glyph worker",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "localhost:5672",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "RabbitMQ, at the address of `AMQP_URL`.",
            },
        },
        "channels": document.channels,
        "operations": document.operations,
        "components": {"messages": document.messages},
    })
}

/// The parts of the document that grow with what there is.
struct Document {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
}

impl Document {
    fn replies(&mut self) {
        self.messages.insert(
            "reply".to_owned(),
            json!({
                "name": "command.outcome",
                "title": "Answer to a command",
                "summary": "The outcome of a command, for its producer; not persistent, and sent once \
                            at most.",
                "contentType": "application/json",
                "payload": schema("messages/reply.v1.json"),
            }),
        );
        self.channels.insert(
            "replies".to_owned(),
            json!({
                "address": null,
                "title": "Replies",
                "description": "The queue that a producer names in the property `reply_to` of a \
                                command, `amq.rabbitmq.reply-to` included. The property \
                                `correlation_id` is the command's.",
                "messages": {"reply": message("reply")},
            }),
        );
    }

    fn command(&mut self, command_type: &str, exchange: &Value) {
        let name = format!("command.{command_type}");
        self.messages.insert(
            name.clone(),
            json!({
                "name": command_type,
                "title": format!("Command `{command_type}`"),
                "contentType": "application/json",
                "headers": trace_headers(),
                "payload": schema(&format!("commands/{command_type}.v1.json")),
            }),
        );
        self.channels.insert(
            name.clone(),
            json!({
                "address": command_type,
                "title": format!("Command `{command_type}`"),
                "description": COMMANDS,
                "messages": {command_type: message(&name)},
                "bindings": routed(exchange),
            }),
        );
        self.operations.insert(
            format!("receive.{command_type}"),
            json!({
                "action": "receive",
                "channel": channel(&name),
                "summary": format!("Decides the command `{command_type}`."),
                "bindings": {"amqp": {"deliveryMode": 2, "ack": true, "bindingVersion": BINDING}},
                "reply": {
                    "address": {
                        "location": "$message.header#/reply_to",
                        "description": "The property `reply_to`; without it no answer is sent.",
                    },
                    "channel": channel("replies"),
                },
            }),
        );
    }

    fn message(&mut self, kind: MessageType, exchange: &Value, example: &Value) {
        let name = kind.as_str();
        self.messages.insert(
            name.to_owned(),
            json!({
                "name": kind.event_type(),
                "title": format!("Message `{kind}`"),
                "summary": kind.about(),
                "contentType": CONTENT_TYPE,
                "headers": trace_headers(),
                "correlationId": {"location": "$message.payload#/correlationid"},
                "payload": {"allOf": [
                    schema("messages/message.v1.json"),
                    {"type": "object", "properties": {
                        "type": {"const": kind.event_type()},
                        "data": schema(kind.schema_path()),
                    }},
                ]},
                "bindings": {"amqp": {"messageType": kind.event_type(), "bindingVersion": BINDING}},
                "examples": [{"name": kind.schema_name(), "payload": example}],
            }),
        );
        let parts = kind.key_parts();
        let parameters = parts
            .iter()
            .map(|part| ((*part).to_owned(), parameter(part)));
        let address = parts
            .iter()
            .fold(name.to_owned(), |key, part| format!("{key}.{{{part}}}"));
        self.channels.insert(
            name.to_owned(),
            json!({
                "address": address,
                "title": format!("Message `{kind}`"),
                "description": kind.about(),
                "parameters": parameters.collect::<Map<_, _>>(),
                "messages": {name: message(name)},
                "bindings": routed(exchange),
            }),
        );
        self.operations.insert(
            format!("send.{name}"),
            json!({
                "action": "send",
                "channel": channel(name),
                "summary": kind.about(),
                "bindings": {"amqp": {
                    "deliveryMode": 2,
                    "mandatory": kind.is_mandatory(),
                    "timestamp": true,
                    "bindingVersion": BINDING,
                }},
            }),
        );
    }

    fn queue(
        &mut self,
        topology: &Topology,
        objects: &[Object],
        queue: &Object,
        bindings: &[(String, String)],
    ) {
        let name = &queue.name;
        let bound: Vec<Value> = bindings
            .iter()
            .map(|(exchange, key)| json!({"exchange": exchange_named(objects, exchange), "routingKey": key}))
            .collect();
        let (about, messages) = contents(topology, name);
        let messages: Map<String, Value> = messages
            .into_iter()
            .map(|name| (name.replace('.', "-"), message(&name)))
            .collect();
        let mut described = json!({
            "address": name,
            "title": format!("Queue `{name}`"),
            "description": format!("{about} {QUEUE_NOTE}"),
            "bindings": {"amqp": {
                "is": "queue",
                "queue": {
                    "name": name, "durable": true, "exclusive": false, "autoDelete": false, "vhost": "/",
                },
                "bindingVersion": BINDING,
            }},
            "x-arguments": arguments(&queue.arguments),
            "x-bindings": bound,
        });
        if !messages.is_empty() {
            described["messages"] = messages.into();
        }
        self.channels.insert(format!("queue.{name}"), described);
    }

    fn dead_command(&mut self) {
        let text = |description: &str| json!({"type": "string", "description": description});
        self.messages.insert(
            "dead".to_owned(),
            json!({
                "name": "dead",
                "title": "Command that was given up",
                "summary": "A copy of the command, with everything that its producer set.",
                "headers": {"type": "object", "properties": {
                    HEADER_REASON: text("Why, as a code; what the broker moved has `x-death` instead."),
                    HEADER_ERROR: text("Why, for people."),
                    HEADER_ATTEMPTS: text("How often it was tried."),
                    HEADER_FIRST_FAILED_AT: text("When it failed first (RFC 3339)."),
                }},
                "payload": {"description": "The body as it came; it need not be JSON."},
            }),
        );
    }
}

/// What a queue holds: a sentence, and the names of its messages.
fn contents(topology: &Topology, queue: &str) -> (&'static str, Vec<String>) {
    let commands = |of: &dyn Fn(&str) -> bool| -> Vec<String> {
        let types = Command::TYPES.into_iter().filter(|name| of(name));
        types.map(|name| format!("command.{name}")).collect()
    };
    if let Some(of) = CommandQueue::ALL
        .into_iter()
        .find(|of| topology.queue(*of) == queue)
    {
        return (
            "Commands that wait for a worker. Only workers read it.",
            commands(&|name| CommandQueue::of(name) == of),
        );
    }
    if RetryDelay::ALL
        .into_iter()
        .any(|delay| topology.retry(delay) == queue)
    {
        return (
            "Commands that could not be decided and are tried again after the time of the queue's \
             name. Nobody reads it: the broker puts them back.",
            commands(&|_| true),
        );
    }
    if queue == topology.dead() {
        return (
            "Commands that cannot be read, lead nowhere, or were given up. `glyph dead-letter` lists \
             and replays them.",
            vec!["dead".to_owned()],
        );
    }
    let kind = if queue == topology.step_completed() {
        MessageType::StepCompleted
    } else {
        MessageType::TransitionOccurred
    };
    (
        "For downstream systems; grows until somebody reads it. Not there with `GLYPH_QUEUES=none`.",
        vec![kind.as_str().to_owned()],
    )
}

fn schema(path: &str) -> Value {
    json!({"$ref": format!("./{path}")})
}

fn channel(name: &str) -> Value {
    json!({"$ref": format!("#/channels/{name}")})
}

fn message(name: &str) -> Value {
    json!({"$ref": format!("#/components/messages/{name}")})
}

fn parameter(part: &str) -> Value {
    json!({"description": match part {
        "workflow" => "The workflow's id.",
        _ => "The step's id; left out, with its dot, where the message is about no single step.",
    }})
}

fn trace_headers() -> Value {
    json!({"type": "object", "properties": {
        HEADER_TRACEPARENT: {"type": "string", "description": "W3C trace context, if any."},
    }})
}

/// The bindings of a channel that is a routing key.
fn routed(exchange: &Value) -> Value {
    json!({"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": BINDING}})
}

/// The declared exchange of that name, as bindings describe it.
fn exchange_named(objects: &[Object], name: &str) -> Value {
    let kind = objects.iter().find_map(|object| match &object.kind {
        Kind::Exchange(kind) if object.name == name => Some(kind),
        Kind::Exchange(_) | Kind::Queue(_) => None,
    });
    let kind = match kind {
        Some(ExchangeKind::Topic) => "topic",
        Some(ExchangeKind::Fanout) => "fanout",
        Some(ExchangeKind::Direct) => "direct",
        Some(ExchangeKind::Headers) => "headers",
        Some(ExchangeKind::Custom(_)) | None => "default",
    };
    json!({"name": name, "type": kind, "durable": true, "autoDelete": false, "vhost": "/"})
}

fn arguments(table: &FieldTable) -> Map<String, Value> {
    let value = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        AMQPValue::LongInt(number) => (*number).into(),
        AMQPValue::LongLongInt(number) => (*number).into(),
        // Nothing else is declared.
        other => format!("{other:?}").into(),
    };
    table
        .inner()
        .iter()
        .map(|(name, held)| (name.to_string(), value(held)))
        .collect()
}
