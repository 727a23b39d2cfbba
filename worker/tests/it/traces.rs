//! Spans at a collector, and trace contexts on messages.

use std::{collections::BTreeMap, time::Duration};

use glyph_worker::{
    broker::Properties, pipeline::PipelineSettings, settings::TraceSettings, traces::Traces,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use prost::Message;
use serde_json::Value;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{header, method, path},
};

use crate::support::{
    DEADLINE,
    engine::{World, submission, task},
    eventually,
};

const PARENT_TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT_SPAN: &str = "00f067aa0ba902b7";

fn settings(variables: &[(&str, &str)]) -> TraceSettings {
    let pairs = variables
        .iter()
        .map(|(name, value)| (format!("OTEL_{name}"), (*value).to_owned()));
    let variables: BTreeMap<_, _> = pairs.collect();
    TraceSettings::read(&variables).unwrap().unwrap()
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter();
    digits.fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

async fn collector(status: u16) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST"))
        .and(path("/v1/traces"))
        .and(header("x-key", "k y"))
        .and(header("content-type", "application/x-protobuf"))
        .respond_with(ResponseTemplate::new(status))
        .mount(&server)
        .await;
    server
}

async fn sent(server: &MockServer) -> Vec<ExportTraceServiceRequest> {
    let requests = server.received_requests().await.unwrap();
    let bodies = requests.iter().map(|request| request.body.as_slice());
    bodies
        .map(|body| ExportTraceServiceRequest::decode(body).unwrap())
        .collect()
}

fn spans(requests: &[ExportTraceServiceRequest]) -> Vec<Span> {
    let resources = requests.iter().flat_map(|r| &r.resource_spans);
    let scopes = resources.flat_map(|r| &r.scope_spans);
    scopes.flat_map(|s| s.spans.clone()).collect()
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let found = span.attributes.iter().find(|pair| pair.key == name)?;
    Some(format!("{:?}", found.value.as_ref()?.value.as_ref()?))
}

/// Sends a command with a producer's trace context and waits for its messages.
async fn run(world: &World) -> Vec<Value> {
    let properties = Properties {
        headers: BTreeMap::from([(
            "traceparent".to_owned(),
            format!("00-{PARENT_TRACE}-{PARENT_SPAN}-01"),
        )]),
        ..Properties::default()
    };
    let body = submission(task(1), "annotate", 1, "yes").to_string();
    world.broker.send_with(body.as_bytes(), properties, 0);
    eventually("settled", || async {
        (!world.broker.settled().is_empty()).then_some(())
    })
    .await;
    world.drain().await;
    world.broker.events()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_producer_through_worker_to_messages() {
    let server = collector(200).await;
    let settings = settings(&[
        ("EXPORTER_OTLP_ENDPOINT", &server.uri()),
        ("EXPORTER_OTLP_HEADERS", "x-key=k%20y"),
        ("SERVICE_NAME", "labelling"),
    ]);
    let traces = Traces::start(Some(&settings)).unwrap();
    let world = World::traced(PipelineSettings::default(), traces.clone()).await;
    let messages = run(&world).await;
    traces.stop(DEADLINE).await;

    let requests = sent(&server).await;
    let resource = requests[0].resource_spans[0].resource.as_ref().unwrap();
    let name = resource.attributes.iter().find(|a| a.key == "service.name");
    assert!(format!("{name:?}").contains("labelling"), "{resource:?}");

    let spans = spans(&requests);
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let command = named("process submission");
    assert_eq!(command.kind(), SpanKind::Consumer);
    assert_eq!(hex(&command.trace_id), PARENT_TRACE);
    assert_eq!(hex(&command.parent_span_id), PARENT_SPAN);
    assert!(
        attribute(command, "glyph.outcome")
            .unwrap()
            .contains("applied")
    );
    assert!(command.start_time_unix_nano <= command.end_time_unix_nano);
    assert!(
        command
            .status
            .as_ref()
            .is_none_or(|s| s.code() == StatusCode::Unset)
    );

    let batch = named("commit batch");
    assert_eq!(batch.links.len(), 1);
    assert_eq!(batch.links[0].span_id, command.span_id);

    let carried_on = format!("00-{PARENT_TRACE}-{}-01", hex(&command.span_id));
    assert!(!messages.is_empty());
    for message in &messages {
        assert_eq!(message["traceparent"], carried_on, "{message:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_fails_or_is_away_disturbs_nothing() {
    let failing = collector(500).await;
    for endpoint in [failing.uri(), "http://127.0.0.1:9".to_owned()] {
        let settings = settings(&[
            ("EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("EXPORTER_OTLP_HEADERS", "x-key=k%20y"),
            ("EXPORTER_OTLP_TIMEOUT", "100"),
        ]);
        let traces = Traces::start(Some(&settings)).unwrap();
        let world = World::traced(PipelineSettings::default(), traces.clone()).await;
        assert!(!run(&world).await.is_empty());
        traces.stop(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sampler_leaves_out_is_not_sent_and_still_carried_on() {
    let server = collector(200).await;
    let settings = settings(&[
        ("EXPORTER_OTLP_ENDPOINT", &server.uri()),
        ("TRACES_SAMPLER", "always_off"),
    ]);
    let traces = Traces::start(Some(&settings)).unwrap();
    let world = World::traced(PipelineSettings::default(), traces.clone()).await;
    let messages = run(&world).await;
    traces.stop(DEADLINE).await;
    assert!(spans(&sent(&server).await).is_empty());
    let carried_on = messages[0]["traceparent"].as_str().unwrap();
    assert!(
        carried_on.contains(PARENT_TRACE) && carried_on.ends_with("-00"),
        "{carried_on}"
    );
}

#[tokio::test]
async fn without_a_collector_the_context_of_the_producer_is_carried_on() {
    let world = World::new().await;
    let messages = run(&world).await;
    let expected = format!("00-{PARENT_TRACE}-{PARENT_SPAN}-01");
    assert_eq!(messages[0]["traceparent"], expected);
}
