"""The commands that the pages show, run as a reader would run them, in the order of their page.

Each `glyph`, and each call with curl, in a block of shell runs on a deployment that has what the pages speak of: workflows,
files, tasks, dead letters under the names and ids that they use. It must end with exit code 0.
"""

import json
import os
import pathlib
import re
import subprocess
import tempfile

import pika

from glyph_client import REPOSITORY, Broker, Deployment, binary, derived, fresh, submission, wait_until

PAGES = ("README.md", "examples/README.md", "docs/*.md")
WALKED = "docs/first-workflow.md"  # by the check `walk`, whole
BLOCK = re.compile(r"^ *```(console|sh|bash)\n(.*?)^ *```", re.DOTALL | re.MULTILINE)
ASSIGNMENT = re.compile(r"[A-Z]+=")
# What is not run here, and why. `docker`, `cargo` and the like are no commands of ours.
LEFT_OUT = {
    "glyph worker": "it runs already",
    "docker compose": "it needs an engine",
    "glyph bench": "it measures for minutes",
    "glyph job stop": "a replay of one letter has ended by then",
    "glyph outbox drop": "the broker refuses nothing here",
    "example.org": "the hosts are examples",
    "glyph-bench-floor": "it needs a release build",
}
# By the ids that the pages use.
TASK = "01930d5e-7b1c-7d0a-8a2b-3c4d5e6f7a8b"
ANNOTATOR = "0190a6c0-0000-7000-8000-000000000001"
LETTER = "5f0c1a9b2d3e"
JOB = "019b0c5e-7b1c-7d0a-8a2b-3c4d5e6f7a8b"

SENTIMENT = """
workflow:
  id: sentiment
  steps:
    - id: annotate
      type: annotation
      answer: { field: label, kind: category, values: [positive, negative] }
      completion: { type: confidence, target: 0.9, min: 2, max: 5 }
      consensus: { threshold: 0.5 }
  transitions:
    - { from: annotate, to: _complete }
"""
BOXES = """
workflow:
  id: boxes
  steps:
    - id: annotate
      type: annotation
      answer: { field: label, kind: category, values: [cat, dog] }
      completion: { type: annotation_count, count: 1 }
  transitions:
    - { from: annotate, to: _complete }
"""
# Its only task goes nowhere.
STUCK = """
workflow:
  id: stuck
  steps:
    - { id: annotate, type: annotation, field: label }
    - { id: decide, type: auto_process, handler: finalize }
  transitions:
    - { from: annotate, to: decide }
    - { from: decide, to: _complete, condition: { type: expression, expression: "result.value == 'never'" } }
"""
CODING = """
workflow:
  id: coding
  name: Revision %s
  steps:
    - id: %s
      type: annotation
      completion: { type: annotation_count, count: 2 }
      consensus: { field: code, threshold: 1.0 }
  transitions:
    - { from: %s, to: _complete }
"""


def main(checks):
    with tempfile.TemporaryDirectory() as folder, Deployment("pages") as glyph:
        worker = glyph.start_worker()
        with Broker(glyph) as broker:
            reader = Reader(pathlib.Path(folder), glyph, worker.port, broker)
            everything = 0
            for page in [page for pattern in PAGES for page in sorted(REPOSITORY.glob(pattern)) if page != REPOSITORY / WALKED]:
                lines = list(reader.read(page.read_text()))
                faults = [fault for line in lines for fault in reader.run(*line)]
                if lines:
                    checks.all(f"{page.relative_to(REPOSITORY)}: {len(lines)} commands do what they say", faults)
                everything += len(lines)
            checks.true("the pages show commands", everything > 50, everything)


class Reader:
    """Somebody at a terminal, in a folder with the files that the pages name."""

    def __init__(self, folder, glyph, port, broker):
        self.folder = folder
        self.glyph = glyph
        self.port = port
        self.broker = broker
        (folder / "bin").mkdir()
        (folder / "bin" / "glyph").symlink_to(binary())
        (folder / "backup").mkdir()
        for name in ("examples", "schemas"):
            (folder / name).symlink_to(REPOSITORY / name)
        for name in (".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"):
            (folder / name).mkdir(parents=True)
        self.environment = glyph.environment(PATH=f"{folder / 'bin'}:{os.environ['PATH']}", HOME=str(folder))
        self.write_files()
        self.put_data()

    def write_files(self):
        files = {
            "two-and-a-judge.yaml": (REPOSITORY / "examples" / "sentiment-dual.yaml").read_text(),
            "new-revision.yaml": SENTIMENT.replace("max: 5", "max: 4"),
            "items.csv": "id,text\nreview-1,good\nreview-2,bad\n",
            "labels.csv": "item,worker,label,at\nreview-1,ann,positive,2026-01-01T00:00:00Z\nreview-1,bob,positive,2026-01-02T00:00:00Z\n",
            "known.jsonl": '{"id": "known-1", "text": "fine", "gold": "positive"}\n',
        }
        for name, text in files.items():
            (self.folder / name).write_text(text)
        annotation = {"was_cancelled": False, "completed_by": 1, "result": [{"type": "choices", "from_name": "label", "to_name": "text", "value": {"choices": ["cat"]}}]}
        (self.folder / "label-studio.json").write_text(json.dumps([{"id": 1, "data": {"text": "purrs"}, "annotations": [{"id": 7, **annotation}]}]))
        # Finished work, somebody with a report, and a task that a page follows.
        commands = [
            submission(derived("pages", str(item)), person, {"label": "positive"}, workflow="sentiment")
            for item in range(3)
            for person in (ANNOTATOR, derived("pages", "bob"))
        ]
        commands.append(submission(TASK, ANNOTATOR, {"label": "positive"}, workflow="stuck"))
        (self.folder / "commands.jsonl").write_text("".join(json.dumps(command) + "\n" for command in commands))
        known = [{"task_id": command["task_id"], "expected": "positive"} for command in commands[:1]]
        (self.folder / "known-answers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in known))

    def put_data(self):
        glyph = self.glyph
        glyph.create_workflow((REPOSITORY / "examples" / "sentiment-dual.yaml").read_text())
        for text in (SENTIMENT, BOXES, STUCK, *(CODING % (n, step, step) for n, step in ((1, "annotate"), (2, "annotate"), (3, "label")))):
            glyph.create_workflow(text)
        glyph.glyph("publish", str(self.folder / "commands.jsonl"))
        self.queues = {name: self.broker.own_queue(name) for name in ("new-consumer", "billing")}
        wait_until("the task is stuck", lambda: "incident" in glyph.glyph("task", "explain", TASK), 30)

    def read(self, text):
        """The commands of a page that are to be run, each with the assignments that stand before it."""
        assigned = []
        for kind, block in BLOCK.findall(text):
            for line in map(str.strip, block.replace("\\\n", " ").splitlines()):
                if kind == "console":
                    if not line.startswith("$ "):
                        continue
                    line = line[2:]
                if any(part in line for part in LEFT_OUT):
                    continue
                if ASSIGNMENT.match(line):
                    assigned.append(line)
                elif re.search(r"(^|[ (])glyph ", line.split(" #")[0]) or re.match(r"curl .*localhost:8080", line):
                    yield line, list(assigned)

    def run(self, line, assigned):
        """What is wrong with a command, if anything."""
        script = "\n".join(["set -o pipefail", *assigned, self.here(line)])
        seconds = 5 if "--follow" in line else 60
        try:
            done = subprocess.run(
                ["bash", "-c", script], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return [] if "--follow" in line else [(line, f"not within {seconds} s")]
        return [] if done.returncode == 0 else [(line, done.returncode, done.stdout[-300:] + done.stderr[-300:])]

    def letters(self):
        return json.loads(self.glyph.glyph("dead-letter", "list", "--output", "json"))["dead_letters"]

    def put_letter(self):
        """A submission whose task was started too late, as a worker gives it up: that itself takes more than a minute."""
        task = fresh()
        self.glyph.glyph("task", "start", task, "--workflow", "sentiment-dual")
        command = submission(task, ANNOTATOR, {"label": "positive"})
        headers = {"x-glyph-reason": "task_not_found", "x-glyph-error": "the task has not been started", "x-glyph-attempts": 4}
        properties = pika.BasicProperties(delivery_mode=2, headers=headers)
        self.broker.channel.basic_publish(self.broker.named("dead"), "submission", json.dumps(command).encode(), properties)
        wait_until("a letter is there", self.letters, 30)

    def here(self, line):
        """The line, with the names that it has on this machine."""
        if "dead-letter" in line:
            if not self.letters():
                self.put_letter()
            letter = self.letters()[0]["letter"]
            line = re.sub(f"{LETTER}|{TASK}", letter, line)
        if JOB in line:
            line = line.replace(JOB, json.loads(self.glyph.glyph("job", "list", "--output", "json"))["jobs"][0]["id"])
        line = line.replace("curl ", "curl --fail-with-body --silent --show-error ")
        line = line.replace("localhost:8080", f"127.0.0.1:{self.port}").replace("/backup/", f"{self.folder}/backup/")
        line = re.sub(r"\bFILE\b", "examples/sentiment-dual.yaml", re.sub(r"\bSCRIPT\b", "examples/scripts/sentiment-dual.yaml", line))
        line = re.sub(r"> examples/\S*", "> drawn.svg", line)
        for name, queue in self.queues.items():
            line = line.replace(f"--to {name}", f"--to {queue}")
        return line
