"""Reads the worker's metrics with the reference parser and, if it is installed, with promtool."""

import re
import shutil
import subprocess

from glyph_client import REPOSITORY, Broker, Deployment, free_port, fresh, submission, wait_until

WORKFLOW = """
workflow:
  id: measured
  name: Two annotators, a goal, and a handler
  entry_step: annotate
  steps:
    - id: annotate
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus: { metric: percent_agreement, field: label, threshold: 1.0 }
    - id: finish
      type: auto_process
      handler: finalize
  transitions:
    - { from: annotate, to: finish }
    - { from: finish, to: _complete }
goals:
  - { id: volume, type: volume, target: 10, unit: tasks, on_complete: [notify] }
"""

# By sample name, with the labels each must carry.
WANTED = {
    "glyph_commands_total": {"type", "outcome"},
    "glyph_command_duration_seconds_count": set(),
    "glyph_command_age_seconds_count": set(),
    "glyph_batch_commands_count": set(),
    "glyph_events_appended_total": {"event_type"},
    "glyph_version_conflicts_total": set(),
    "glyph_retries_total": {"reason"},
    "glyph_dead_letters_total": {"reason"},
    "glyph_job_items_total": {"outcome"},
    "glyph_outbox_pending": set(),
    "glyph_outbox_oldest_seconds": set(),
    "glyph_messages_published_total": {"type"},
    "glyph_publish_confirm_seconds_count": set(),
    "glyph_unroutable_total": set(),
    "glyph_tasks": {"status"},
    "glyph_waiting_oldest_seconds": {"step_type"},
    "glyph_task_cache_total": {"result"},
    "glyph_snapshots_total": set(),
    "glyph_timers_due": set(),
    "glyph_goal_progress_ratio": {"workflow", "goal"},
    "glyph_agreement_ratio_count": set(),
    "glyph_consumer_connected": set(),
    "glyph_build_info": set(),
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
    "process_open_fds": set(),
}
# Either a gauge or a histogram is acceptable.
EITHER = {"glyph_agreement_ratio_count": "glyph_agreement_ratio"}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-")


def main(checks):
    metrics_port = free_port()
    with Deployment("prometheus") as glyph:
        glyph.create_workflow(WORKFLOW)
        worker = glyph.start_worker(GLYPH_METRICS_ADDR=f"127.0.0.1:{metrics_port}")
        with Broker(glyph) as broker:
            done, waiting, annotator = fresh(), fresh(), fresh()
            for task, user in ((done, annotator), (done, annotator), (done, fresh()), (waiting, fresh())):
                broker.publish("submission", submission(task, user, {"label": "1"}, workflow="measured"))
            broker.publish("submission", b"no JSON")
            broker.publish("advance", {"type": "advance", "command_id": fresh(), "task_id": fresh()})

        def missing():
            samples = worker.samples()
            seen = {name: labels.keys() for name, labels, _ in samples}
            return sorted(
                name
                for name, labels in WANTED.items()
                if not any(n in seen and labels <= seen[n] for n in (name, EITHER.get(name)))
            )

        try:
            wait_until("all metrics there", lambda: not missing(), 30)
        except TimeoutError:
            pass
        checks.equal("the reference parser reads the text, and all names are there", missing(), [])

        def tasks():
            return {labels["status"]: value for name, labels, value in worker.samples() if name == "glyph_tasks" and value}

        wait_until("tasks counted by status", lambda: tasks() == {"completed": 1, "running": 1}, 30)
        checks.equal("rejected commands counted", worker.total("glyph_commands_total", type="submission", outcome="rejected"), 1)
        checks.equal("dead letters counted", worker.total("glyph_dead_letters_total", reason="malformed"), 1)
        checks.true("the consumer shows as connected", worker.total("glyph_consumer_connected") >= 1)

        samples = worker.samples()
        ids = [(n, labels) for n, labels, _ in samples if any(UUID.search(value) for value in labels.values())]
        checks.all("no ids in labels", ids)

        answers = [worker.get(path, metrics_port)[0] for path in ("/metrics", "/livez", "/readyz", "/api/v1/tasks", "/docs")]
        checks.equal("the listener for metrics serves these and nothing else", answers, [200, 200, 200, 404, 404])
        check_with_promtool(checks, worker)


def check_with_promtool(checks, worker):
    promtool = shutil.which("promtool")
    if not promtool:
        print("  (no promtool)")
        return

    def run(*arguments, text=None):
        done = subprocess.run([promtool, *arguments], input=text, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    # 3 is its exit code for style, such as a library's counter without the usual suffix.
    code, said = run("check", "metrics", text=worker.get("/metrics")[1])
    own = [line for line in said.splitlines() if line.startswith("glyph_")]
    checks.true("promtool check metrics", code in (0, 3) and not own, said)
    code, said = run("check", "config", str(REPOSITORY / "docker" / "prometheus.yml"))
    checks.equal("promtool check config", (code, said if code else ""), (0, ""))
