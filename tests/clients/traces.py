"""One trace from a producer through the worker to a consumer: both ends are programs in Python with the SDK of OpenTelemetry, and a collector of
the check's own receives what the worker exports."""

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from glyph_client import Answering, Broker, Deployment, HttpServer, fresh, submission, wait_until

WORKFLOW = """
workflow:
  id: traced
  steps:
    - { id: annotate, type: annotation, field: label }
"""
# The SDK sends after five seconds, if nothing is said.
EXPORT_EVERY_MS = "200"


class Collector(Answering):
    """Takes OTLP over HTTP: the spans by their names, each with the name of its service."""

    received = []

    def do_POST(self):
        request = ExportTraceServiceRequest.FromString(self.body())
        for resource in request.resource_spans:
            [service] = [pair.value.string_value for pair in resource.resource.attributes if pair.key == "service.name"]
            self.received.extend((service, span) for scope in resource.scope_spans for span in scope.spans)
        self.answer(200)


def main(checks):
    tracer = TracerProvider().get_tracer("checks")
    propagator = TraceContextTextMapPropagator()
    with HttpServer(Collector) as collector, Deployment("traces") as glyph:
        glyph.create_workflow(WORKFLOW)
        glyph.start_worker(
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.port}", OTEL_SERVICE_NAME="labelling", OTEL_BSP_SCHEDULE_DELAY=EXPORT_EVERY_MS
        )
        with Broker(glyph) as broker:
            inbox = broker.subscribe(broker.listen("consumer", "events", "workflow.completed.#"))
            with tracer.start_as_current_span("enqueue", kind=SpanKind.PRODUCER) as produced:
                headers = {}
                propagator.inject(headers)
                broker.publish("submission", submission(fresh(), fresh(), {"label": "fine"}, workflow="traced"), headers=headers)
            message = inbox.next()
        with tracer.start_as_current_span("bill", context=propagator.extract(message.headers), kind=SpanKind.CONSUMER) as consumed:
            pass

        of_trace = produced.get_span_context().trace_id.to_bytes(16, "big")
        service, worked = wait_until(
            "the worker's span", lambda: next((one for one in Collector.received if one[1].trace_id == of_trace), None), seconds=30
        )
        checks.equal("the worker's span is of its service", (service, worked.name), ("labelling", "process submission"))
        checks.equal("it is below the producer's", worked.parent_span_id, produced.get_span_context().span_id.to_bytes(8, "big"))
        checks.equal("the consumer's is below the worker's", consumed.parent.span_id.to_bytes(8, "big"), worked.span_id)
        checks.equal("all are one trace", consumed.get_span_context().trace_id, produced.get_span_context().trace_id)
        checks.equal("header and attribute of the message say the same", message.json["traceparent"], message.headers["traceparent"])
        batch = wait_until("the span of the batch", lambda: next((span for _, span in Collector.received if span.links), None), seconds=30)
        checks.equal("the span of the batch is linked to the command's", [link.span_id for link in batch.links], [worked.span_id])
