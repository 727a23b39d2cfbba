//! Exports traces over OTLP if the standard `OTEL_*` variables name a collector.
//!
//! Each command is a span below its producer's, and its messages pass that span on as their
//! `traceparent`, so that a trace runs from producer to consumer. Each run of a batch is a span
//! linked to its commands. Spans wait in a bounded queue of the library and are dropped when it is
//! full: a slow or missing collector costs traces, never work.

mod client;
mod error;

use std::{collections::HashMap, sync::Arc, time::Duration};

use glyph_workflow_engine::command::{CommandEnvelope, Outcome};
use opentelemetry::{
    Context, KeyValue,
    propagation::TextMapPropagator,
    trace::{
        Link, Span as _, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
    },
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracer, SdkTracerProvider, Span},
};

use self::client::CollectorClient;
pub use self::error::TraceError;
use crate::settings::{TraceSampler, TraceSettings};

/// The header and attribute of the W3C trace context.
const TRACEPARENT: &str = "traceparent";

/// Creates spans; clones share the exporter. Without a collector it does nothing.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    exporting: Option<Arc<Exporting>>,
}

#[derive(Debug)]
struct Exporting {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Starts exporting by `settings`; without settings nothing is exported. Needs a tokio runtime.
    pub fn start(settings: Option<&TraceSettings>) -> Result<Self, TraceError> {
        let Some(settings) = settings else {
            return Ok(Self::default());
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(CollectorClient::new(settings)?)
            .with_endpoint(&settings.endpoint)
            .with_headers(settings.headers.clone().into_iter().collect())
            .with_timeout(settings.timeout)
            .build()?;
        let attributes = settings.attributes.iter();
        let resource = Resource::builder()
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attributes(attributes.map(|(k, v)| KeyValue::new(k.clone(), v.clone())))
            .with_service_name(settings.service_name.clone())
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler(settings.sampler))
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("glyph");
        Ok(Self {
            exporting: Some(Arc::new(Exporting { provider, tracer })),
        })
    }

    /// Begins the span of a command that arrived `age` ago, below its producer's. From here on the
    /// command carries this span as its trace context.
    pub fn begin_command(
        &self,
        command: &mut CommandEnvelope,
        kind: CommandOrigin,
        age: Duration,
    ) -> CommandSpan {
        let Some(exporting) = &self.exporting else {
            return CommandSpan(None);
        };
        let propagator = TraceContextPropagator::new();
        let parent = command.traceparent.take().map(|traceparent| {
            let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent)]);
            propagator.extract_with_context(&Context::new(), &carrier)
        });
        let received = std::time::SystemTime::now().checked_sub(age);
        let builder = exporting
            .tracer
            .span_builder(format!("process {}", command.command.type_name()))
            .with_kind(match kind {
                CommandOrigin::Queue => SpanKind::Consumer,
                CommandOrigin::Direct => SpanKind::Internal,
            })
            .with_start_time(received.unwrap_or_else(std::time::SystemTime::now))
            .with_attributes([
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.message.id", command.command_id.to_string()),
                KeyValue::new("glyph.task.id", command.command.task_id().to_string()),
            ]);
        let parent = parent.unwrap_or_default();
        let span = builder.start_with_context(&exporting.tracer, &parent);
        let mut carrier = HashMap::new();
        let context = Context::new().with_remote_span_context(span.span_context().clone());
        propagator.inject_context(&context, &mut carrier);
        command.traceparent = carrier.remove(TRACEPARENT);
        CommandSpan(Some(Box::new(span)))
    }

    /// Begins the span of one run of a batch; it ends when it is dropped.
    pub fn begin_batch<'a>(&self, commands: impl Iterator<Item = &'a CommandSpan>) -> BatchSpan {
        let Some(exporting) = &self.exporting else {
            return BatchSpan { _span: None };
        };
        let links: Vec<Link> = commands
            .filter_map(CommandSpan::context)
            .map(Link::with_context)
            .collect();
        let size = i64::try_from(links.len()).unwrap_or(i64::MAX);
        let span = exporting
            .tracer
            .span_builder("commit batch")
            .with_kind(SpanKind::Internal)
            .with_attributes([KeyValue::new("messaging.batch.message_count", size)])
            .with_links(links)
            .start_with_context(&exporting.tracer, &Context::new());
        BatchSpan { _span: Some(span) }
    }

    /// Exports the waiting spans, for at most `timeout`. Nothing is exported after it.
    pub async fn stop(&self, timeout: Duration) {
        let Some(exporting) = self.exporting.clone() else {
            return;
        };
        // It blocks until the exporter's thread ends, which needs the runtime's own threads.
        let stopped =
            tokio::task::spawn_blocking(move || exporting.provider.shutdown_with_timeout(timeout));
        if let Ok(Err(error)) = stopped.await {
            tracing::warn!(
                error = error.to_string(),
                "the last spans were not exported"
            );
        }
    }
}

fn sampler(settings: TraceSampler) -> Sampler {
    let root = Sampler::TraceIdRatioBased(settings.ratio);
    if settings.parent_based {
        Sampler::ParentBased(Box::new(root))
    } else {
        root
    }
}

/// Where a command comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandOrigin {
    /// A queue.
    Queue,
    /// This process: HTTP, timers.
    Direct,
}

/// The span of a command; it ends with the outcome, or when it is dropped.
#[derive(Debug, Default)]
pub struct CommandSpan(Option<Box<Span>>);

impl CommandSpan {
    fn context(&self) -> Option<SpanContext> {
        self.0.as_ref().map(|span| span.span_context().clone())
    }

    /// Ends it with the outcome of the command.
    pub fn end(self, outcome: &Outcome) {
        let Some(mut span) = self.0 else {
            return;
        };
        span.set_attribute(KeyValue::new("glyph.outcome", outcome.name()));
        match outcome {
            Outcome::Applied(_) | Outcome::Duplicate(_) => {}
            // A rejection by the rules is no failure of the worker.
            Outcome::Rejected(rejection) => {
                span.set_attribute(KeyValue::new("glyph.reason", rejection.code.as_str()));
            }
            Outcome::Undecided(undecided) => {
                span.set_status(Status::error(undecided.to_string()));
            }
            Outcome::Dead(dead) => {
                span.set_status(Status::error(dead.to_string()));
            }
        }
        span.end();
    }
}

/// The span of one run of a batch; it ends when it is dropped.
#[derive(Debug)]
pub struct BatchSpan {
    _span: Option<Span>,
}
