"""The adapter for Label Studio (examples/label-studio) between a worker and a Label Studio that answers from recordings of a real one: tasks
are shown once, annotations count once, what is not taken is told, and lost webhooks lose nothing. Values are those of `glyph task import`."""

import concurrent.futures
import csv
import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
import uuid

from glyph_client import LOGS, REPOSITORY, Answering, Deployment, HttpServer, binary, free_port, fresh, wait_until

EXAMPLE = REPOSITORY / "examples" / "label-studio"
sys.path.insert(0, str(EXAMPLE))
import answers  # noqa: E402

PROJECT = 7  # as it was numbered when it was recorded
HOOK = "https://adapter.example.org/"
TICKETS = ("ticket-1", "ticket-2", "ticket-3")
TEXT = "Since the 😀 update\nthe app crashes whenever Anna pays in Oslo."
INPUT = {"text": TEXT, "image": "https://images.example.org/car.png"}
WEBHOOKS = ("created", "unknown", "second", "surplus", "changed", "deleted", "invalid", "mended", "skipped")
HOSTILE = range(9_000_000, 9_000_020)  # numbers of annotations that nobody recorded
SECRET = "scrubbed"  # as in the recordings


def main(checks):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        check_values(checks, folder)
        check_interfaces(checks)
        with Deployment("label_studio") as glyph:
            play(checks, glyph, folder)


def task_id(key):
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"glyph:task:{key}"))


def user_id(key):
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"glyph:user:{key}"))


# --- a Label Studio made of recordings ---


class Recordings:
    """Calls in the order in which they were made; the stage says how far the conversation has come."""

    def __init__(self):
        self.calls = [call for name in ("push", "webhooks", "sync", "close") for call in json.loads((EXAMPLE / "recordings" / f"{name}.json").read_text())["calls"]]
        self.stages = list(dict.fromkeys(call["stage"] for call in self.calls))
        self.lock = threading.Lock()
        self.stage = self.stages[0]
        self.writes, self.faults = [], []
        self.interface = None
        # Whether calls on tasks are answered that nobody recorded.
        self.is_free = False

    def move(self, stage):
        with self.lock:
            self.stage, self.writes = stage, []

    def recorded_writes(self, stage):
        return [write_of(call) for call in self.of(stage) if call["to"] == "label-studio" and is_write(call["method"], call["path"])]

    def of(self, stage):
        return [call for call in self.calls if call["stage"] == stage]

    def webhook(self, stage):
        return next(call for call in self.of(stage) if call["to"] == "adapter")

    def number(self, stage):
        """The annotation that a webhook is about."""
        body = self.webhook(stage)["body"]
        return body["annotation"]["id"] if "annotation" in body else body["annotations"][0]["id"]

    def answer(self, method, path, body):
        """What the real one answered to the same call: the last time so far, else the first time after."""
        with self.lock:
            if is_write(method, path):
                self.writes.append((method, path, body))
            so_far = self.stages[: self.stages.index(self.stage) + 1]
            same = [call for call in self.calls if call["to"] == "label-studio" and (call["method"], call["path"]) == (method, path)]
            if is_write(method, path):
                same = [call for call in same if call["body"] == body]
            same = [call for call in same if call["stage"] in so_far] or same[:1]
            if not same and self.is_free and path.startswith("/api/tasks/"):
                return 200, {}
            if not same:
                self.faults.append((self.stage, method, path, body))
                return 500, {"detail": "not recorded"}
            answer = same[-1]["answer"]
            if self.interface and path == f"/api/projects/{PROJECT}/":
                answer = answer | {"label_config": self.interface}
            return same[-1]["status"], answer


def is_write(method, path):
    return method != "GET" and not path.startswith("/api/token/")


def write_of(call):
    return call["method"], call["path"], call["body"]


def studio_handler(recordings):
    class Handler(Answering):
        def play(self):
            body = self.body()
            known = self.headers.get("Authorization") == ("Bearer scrubbed" if not self.path.startswith("/api/token/") else None)
            status, answer = recordings.answer(self.command, self.path, json.loads(body) if body else None) if known else (401, {"detail": "no"})
            self.answer(status, json.dumps(answer).encode())

        do_GET = do_POST = do_PATCH = do_DELETE = play

    return Handler


# --- the adapter as a process ---


class Adapter:
    def __init__(self, glyph_url, studio_port, folder, name, token, project=PROJECT):
        self.files = folder / name
        self.files.mkdir()
        (self.files / "token").write_text(token + "\n")
        users = [("admin@example.org", "admin", ""), ("ann@example.org", "ann", "annotator"), ("Ben@Example.org", "ben", "")]
        with open(self.files / "users.csv", "w", newline="") as file:
            csv.writer(file).writerows([("email", "user", "roles"), *users])
        self.records = self.files / "records.sqlite"
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("GLYPH_", "LABEL_STUDIO_", "WEBHOOK_"))} | {
            "GLYPH_URL": glyph_url, "GLYPH_TOKEN_FILE": str(self.files / "token"), "LABEL_STUDIO_URL": f"http://127.0.0.1:{studio_port}",
            # A personal access token, which is known by its form.
            "LABEL_STUDIO_TOKEN": "header.payload.signature", "WEBHOOK_SECRET": SECRET,
        }
        options = ["--records", self.records, "--users", self.files / "users.csv", "--workflow", "kinds", "--project", str(project)]
        self.command = [sys.executable, EXAMPLE / "adapter.py", *options]
        self.port = free_port()
        self.log = LOGS / f"label-studio-{name}.log"
        self.said = ""
        self.process = None

    def run(self, *arguments, **environment):
        done = subprocess.run(
            [*self.command, *arguments], env=self.environment | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120
        )
        self.said += done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr

    def serve(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "serve", "--listen", f"127.0.0.1:{self.port}", "--every", "3600"],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        wait_until("the adapter has made a round", lambda: self.call("GET", "/healthz")[0] == 200, 30)

    def call(self, method, path, body=None, secret=SECRET):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"X-Glyph-Secret": secret} if secret else {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except OSError as error:
            return 0, str(error)

    def wait_until_settled(self):
        wait_until("every task is settled", lambda: self.call("GET", "/healthz")[1]["to_settle"] == 0, 60)

    def stop(self, kill=False):
        if self.process and self.process.poll() is None:
            self.process.kill() if kill else self.process.terminate()
            return self.process.wait(30)
        return None


# --- the conversation ---


def play(checks, glyph, folder):
    glyph.glyph("workflow", "create", str(EXAMPLE / "workflow.yaml"))
    token, viewer = fresh(), fresh()
    file = folder / "tokens"
    file.write_text("".join(f"{role}:{hashlib.sha256(t.encode()).hexdigest()} name={role}\n" for role, t in (("producer", token), ("viewer", viewer))))
    worker = glyph.start_worker(GLYPH_API_TOKENS_FILE=str(file))
    for key in TICKETS:
        glyph.glyph("task", "start", "--key", key, "--workflow", "kinds", "--input", json.dumps(INPUT))
    glyph.glyph("task", "start", "--key", "ticket-4", "--workflow", "kinds", "--input", json.dumps({"text": "a ticket without a picture"}))
    recordings = Recordings()
    with HttpServer(studio_handler(recordings)) as studio:
        url = f"http://127.0.0.1:{worker.port}"
        adapter = Adapter(url, studio.port, folder, "first", token)
        try:
            check_settings(checks, adapter, recordings, viewer)
            check_push(checks, adapter, recordings)
            adapter.serve()
            check_hostile(checks, glyph, adapter, recordings)
            check_webhooks(checks, glyph, adapter, recordings, worker)
            checks.equal("asked to end, it ends well", adapter.stop(), 0)
            check_sync(checks, glyph, adapter, recordings)
            check_records_lost(checks, glyph, Adapter(url, studio.port, folder, "second", token), recordings)
        finally:
            adapter.stop(kill=True)
    checks.all("every call to Label Studio is one that was recorded", recordings.faults)
    said = adapter.said + adapter.log.read_text(errors="replace")
    checks.all("no secret is printed", [s for s in (token, "header.payload.signature", f" {SECRET}") if s in said])


def check_settings(checks, adapter, recordings, viewer):
    def refused(what, part, arguments=("check",), **environment):
        code, said = adapter.run(*arguments, **environment)
        checks.true(f"refused at the start: {what}", code == 2 and part in said, f"{code} {said}")

    checks.equal("what fits is said to fit", adapter.run("check"), (0, f"step `annotate` of `kinds` fits project {PROJECT}\n"))
    (adapter.files / "viewer").write_text(viewer)
    refused("a token that may not submit", "role `viewer`", GLYPH_TOKEN_FILE=str(adapter.files / "viewer"))
    refused("an unknown token", "missing, wrong or expired", GLYPH_TOKEN_FILE="", GLYPH_TOKEN="unknown")
    refused("no secret", "WEBHOOK_SECRET is not set", ("serve",), WEBHOOK_SECRET="")
    refused("the token of somebody else for Label Studio", "missing, wrong or expired", LABEL_STUDIO_TOKEN="legacy")
    code, said = adapter.run("check", GLYPH_URL=f"http://127.0.0.1:{free_port()}")
    checks.true("a service that is not there has an exit code of its own", code == 4 and "Glyph: GET" in said, f"{code} {said}")
    recordings.interface = (EXAMPLE / "interface.xml").read_text().replace('name="topic"', 'name="topics"')
    refused("an answer without a control", "the step asks for `topic`, and no control has that name; did you mean `topics`?")
    recordings.interface = None


def check_push(checks, adapter, recordings):
    code, said = adapter.run("webhook", HOOK)
    checks.equal("the webhook is made", code, 0)
    code, said = adapter.run("push")
    checks.true("tasks are shown", code == 0 and said.count("waits in Label Studio") == len(TICKETS), said)
    checks.true("one that cannot be shown is told", '\\"image\\" key is expected' in said, said)
    checks.equal("as they were recorded: asked of two people", recordings.writes, recordings.recorded_writes("push"))
    recordings.move("pushed")
    adapter.run("push")
    # What Label Studio refuses is tried again, as somebody may have mended the interface.
    checks.equal("and nothing is made twice", recordings.writes, recordings.recorded_writes("pushed"))
    recordings.move("serve")


def submitted(glyph):
    return glyph.rows(
        """SELECT stream_id::text, event_data->'annotation'->>'user_id', event_data->'annotation'->'data' FROM workflow_events
           WHERE event_type = 'annotation_submitted' ORDER BY batch, position"""
    )


def check_hostile(checks, glyph, adapter, recordings):
    recordings.is_free = True
    webhook = recordings.webhook("created")["body"]
    checks.equal("a webhook without the secret", adapter.call("POST", "/", webhook, secret=None)[0], 401)
    checks.equal("a webhook with a wrong one", adapter.call("POST", "/", webhook, secret="wrong")[0], 401)
    checks.equal("the list with a wrong one", adapter.call("GET", "/refused", secret="wrong")[0], 401)
    broken = [b"", b"{", b"[]", b"null", {"action": 7}, {"action": "ANNOTATION_CREATED"}, webhook | {"task": webhook["task"] | {"id": 99}},
              webhook | {"annotation": webhook["annotation"] | {"updated_at": "yesterday"}}, {"action": "ANNOTATIONS_DELETED", "annotations": [{}]}]
    checks.all("webhooks that cannot be read are told so", [body for body in broken if adapter.call("POST", "/", body)[0] != 400])
    checks.equal("other webhooks are of no matter", adapter.call("POST", "/", {"action": "PROJECT_UPDATED"})[0], 200)

    def outcome(number, **changes):
        body = json.loads(json.dumps(webhook))
        for part, change in changes.items():
            body[part] |= change
        body["annotation"]["id"] = number
        status, answer = adapter.call("POST", "/", body)
        return status, answer.get("outcomes", [{}])[0].get("outcome"), answer.get("outcomes", [{}])[0].get("code", "")

    meta = webhook["task"]["meta"]["glyph"]
    checks.equal("a task that `push` has not made", outcome(HOSTILE[1], task={"meta": {}}), (200, "refused", "unknown_task"))
    checks.equal("one whose id is none", outcome(HOSTILE[2], task={"meta": {"glyph": meta | {"task_id": "../x"}}}), (200, "refused", "unknown_task"))
    checks.equal("one that Glyph does not know", outcome(HOSTILE[3], task={"meta": {"glyph": meta | {"task_id": fresh()}}}), (200, "refused", "task_not_found"))
    checks.equal("an earlier visit", outcome(HOSTILE[4], task={"meta": {"glyph": meta | {"visit": 7}}}), (200, "refused", "earlier_visit"))
    checks.equal("another project", outcome(HOSTILE[5], annotation={"project": 1}), (200, "ignored", ""))
    for number, result in enumerate(([7], [{"type": "choices"}], {"a": 1}, None, [{"type": "brushlabels", "from_name": "x", "value": {"rle": [1]}}]), HOSTILE[6]):
        checks.equal(f"a result that is none: {result}", outcome(number, annotation={"result": result}), (200, "refused", "unmapped"))
    checks.equal("nothing of it came to Glyph", submitted(glyph), [])
    glyph.glyph("task", "pause", "--key", "ticket-1")
    checks.equal("work on a paused task waits", outcome(webhook["annotation"]["id"]), (200, "refused", "task_paused"))
    adapter.wait_until_settled()
    checks.true("and nobody is asked", ("PATCH", f"/api/tasks/{webhook['task']['id']}/", {"overlap": 1, "is_labeled": True}) in recordings.writes, recordings.writes)
    glyph.glyph("task", "resume", "--key", "ticket-1")
    recordings.is_free = False


def check_webhooks(checks, glyph, adapter, recordings, worker):
    for stage in WEBHOOKS:
        recordings.move(stage)
        call = recordings.webhook(stage)
        if stage == "created":
            worker.terminate()
            checks.equal("while Glyph is away, no webhook is taken", adapter.call("POST", "/", call["body"])[0], 503)
            worker.start()
            worker.wait_until_ready()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            told = list(pool.map(lambda _: adapter.call("POST", "/", call["body"]), range(4)))
        checks.equal(f"{stage}: what the adapter says, whoever sends it how often", told, [(200, call["answer"])] * 4)
        adapter.wait_until_settled()
        # The recorded task does not change by a call, so that each time the same is made of it.
        made = [write for n, write in enumerate(recordings.writes) if write not in recordings.writes[:n]]
        checks.equal(f"{stage}: as many people are asked as are needed", made, recordings.recorded_writes(stage))
    before = submitted(glyph)
    ticket = task_id("ticket-1")
    topics = [(task, user, data["topic"]) for task, user, data in before]
    checks.equal("each piece of work counts once", topics, [(ticket, user_id("admin"), "bug"), (ticket, user_id("ben"), "bug"), (task_id("ticket-2"), user_id("ann"), "billing")])
    spans = [[TEXT[s["start"] : s["end"]] for s in data["people"]] for _, _, data in before]
    checks.equal("spans mark what was marked", spans, [["Anna", "Oslo"], ["Anna", "Oslo"], ["update\nthe", "Oslo"]])
    # Late and out of order: what came first comes again.
    for stage in ("created", "invalid", "mended"):
        adapter.call("POST", "/", recordings.webhook(stage)["body"])
    checks.equal("old webhooks change nothing", submitted(glyph), before)
    status, listed = adapter.call("GET", "/refused")
    codes = {row["id"]: row["code"] for row in listed["annotations"] if row["id"] not in HOSTILE}
    wanted = {"changed": "changed_later", "unknown": "unknown_user", "deleted": "deleted_later", "surplus": "surplus"}
    wanted = {recordings.number(stage): code for stage, code in wanted.items()}
    checks.equal("the list has what was not taken", (status, codes), (200, wanted))
    checks.equal("and what cannot be shown", [row["task_id"] for row in listed["tasks"]], [task_id("ticket-4")])


def check_sync(checks, glyph, adapter, recordings):
    recordings.move("sync")
    glyph.glyph("task", "cancel", "--key", "ticket-3")
    before = submitted(glyph)
    checks.equal("sync ends well", adapter.run("sync")[0], 0)
    after = submitted(glyph)
    checks.equal("what no webhook has brought is there", [(task, user) for task, user, _ in after[len(before) :]], [(task_id("ticket-2"), user_id("ben"))])
    adapter.run("sync")
    checks.equal("and again it changes nothing", submitted(glyph), after)
    checks.equal("tasks that have their answers are completed", status_of(glyph), {"ticket-1": "completed", "ticket-2": "completed", "ticket-3": "cancelled"})
    checks.equal("nothing is written by it", recordings.writes, [])
    recordings.move("close")
    adapter.run("push")
    checks.equal("of a task that has ended nobody is asked any more", recordings.writes, recordings.recorded_writes("close"))
    code, said = adapter.run("refused")
    checks.true("the list can be read", code == 1 and said.count("\n") == 5 and "cleo@example.org is nobody" in said, f"{code} {said}")


def status_of(glyph):
    return {key: glyph.value("SELECT status FROM tasks WHERE task_id = %s", [task_id(key)]) for key in TICKETS}


def check_records_lost(checks, glyph, adapter, recordings):
    """The file of records is lost: everything is asked again, and nothing changes."""
    before, status = submitted(glyph), status_of(glyph)
    checks.equal("without the records it syncs", adapter.run("sync")[0], 0)
    checks.equal("and changes nothing", (submitted(glyph), status_of(glyph)), (before, status))
    said = adapter.run("refused")[1]
    codes = re.findall(r"annotation (\d+) .*?\): (\w+):", said)
    wanted = [(str(recordings.number(stage)), code) for stage, code in (("changed", "changed_later"), ("unknown", "unknown_user"), ("surplus", "surplus"))]
    checks.equal("what was not taken is listed again", codes, wanted)
    file = adapter.files / "users.csv"
    file.write_text(file.read_text() + "cleo@example.org,cleo,\n")
    adapter.run("sync")
    checks.true("who is named in the list then is tried", f"annotation {recordings.number('unknown')} " in (said := adapter.run("refused")[1]) and "unknown_user" not in said, said)


# --- values: as `glyph task import` writes them ---


def region(kind, **value):
    return {"id": fresh(), "type": kind, "from_name": "shape", "to_name": "image", "original_width": 200, "original_height": 50, "value": value}


def given(kind, name, **value):
    return {"id": fresh(), "type": kind, "from_name": name, "to_name": "text", "value": value}


BOX = {"x": 10, "y": 20, "width": 5, "height": 40, "rectanglelabels": ["car"]}
EMOJI = "🙂 Ann met 🙂 Bob\nand I"
VALUES = [
    ("one choice", "{ field: label, kind: category }", [given("choices", "label", choices=["bug"])]),
    ("one choice under another name", "{ field: label, kind: category }", [given("choices", "topic", choices=["bug"])]),
    ("several choices", "{ field: tags, kind: set }", [given("choices", "tags", choices=["a", "b"])]),
    ("a choice as a set", "{ kind: set }", [given("choices", "tags", choices=["a"])]),
    ("a rating", "{ field: stars, kind: ordinal, values: [1, 2, 3, 4, 5] }", [given("rating", "stars", rating=4)]),
    ("a number with what is not asked for", "{ field: n, kind: number }", [given("number", "n", number=2.5), given("choices", "why", choices=["a", "b"])]),
    ("a text", "{ field: text, kind: text }", [given("textarea", "text", text=["so 🙂"])]),
    ("a path in a taxonomy", "{ field: tree, kind: category }", [given("taxonomy", "tree", taxonomy=[["animal", "cat"]])]),
    ("paths in a taxonomy", "{ field: tree, kind: set }", [given("taxonomy", "tree", taxonomy=[["animal", "cat"], ["plant"]])]),
    ("one of two", "{ field: better, kind: category }", [given("pairwise", "better", selected="left")]),
    ("anything", "{ kind: any }", [given("choices", "a", choices=["x", "y"]), given("rating", "b", rating=1)]),
    ("spans in units of browsers", "{ field: ner, kind: spans, text: input.text }", [given("labels", "ner", start=14, end=17, text="Bob", labels=["PER", "MAN"])]),
    ("spans in code points", "{ kind: spans, text: input.text, tag: label }", [given("labels", "ner", start=2, end=5, text="Ann", labels=["PER"])]),
    ("a span over a line break", "{ field: ner, kind: spans, text: input.text }",
     [given("labels", "ner", start=14, end=23, text="Bob\\nand I", labels=["PER"])]),
    ("nothing marked", "{ field: ner, kind: spans, text: input.text }", []),
    ("boxes by corners", "{ kind: boxes }", [region("rectanglelabels", **BOX)]),
    ("boxes by sides", "{ field: b, kind: boxes, format: xywh, tag: label }", [region("rectanglelabels", **BOX, rotation=0)]),
    ("a rotated box as a polygon", "{ kind: polygons }", [region("rectanglelabels", **BOX, rotation=90)]),
    ("a rotated box as it is", "{ kind: any }", [region("rectanglelabels", **BOX, rotation=30)]),
    ("a polygon", "{ kind: polygons }", [region("polygonlabels", points=[[0, 0], [10, 0], [10.5, 10]], polygonlabels=["roof"], closed=True)]),
    ("a record with a path, and a question about a region", "{ kind: record, fields: { a.b: { kind: text }, shape: { kind: boxes }, ner: { kind: spans } } }",
     [given("textarea", "a.b", text=["x"]), BLURRED := region("rectanglelabels", **BOX), given("choices", "blurred", choices=["yes"]) | {"id": BLURRED["id"]}]),
    ("a record inside", "{ field: q, kind: record, fields: { c: { kind: category }, s: { kind: set } } }", [given("choices", "c", choices=["x"]), given("choices", "s", choices=["y"])]),
]


def check_values(checks, folder):
    """Each answer, by the adapter and by the import, from what a step asks."""
    for pixels in (False, True):
        for what, answer, result in VALUES:
            workflow, export, out = folder / "values.yaml", folder / "export.json", folder / "commands.jsonl"
            workflow.write_text(f"workflow:\n  id: values\n  steps:\n    - id: annotate\n      type: annotation\n      answer: {answer}\n")
            item = {"text": EMOJI, "image": "a.png"}
            annotation = {"id": 1, "completed_by": 1, "created_at": "2026-01-01T00:00:00Z", "result": result}
            export.write_text(json.dumps([{"id": 1, "data": item, "annotations": [annotation]}]))
            arguments = ["task", "import", export, "--format", "label-studio", "-w", workflow, "--out", out, *(["--pixels"] if pixels else [])]
            out.unlink(missing_ok=True)
            run(arguments)
            imported = [command["annotation"]["data"] for line in out.read_text().splitlines() if (command := json.loads(line))["type"] == "submission"]
            step = json.loads(run(["workflow", "answers", workflow, "--output", "json"]))["steps"]["annotate"]
            question = answers.Question(step, None)
            parts = answers.parts_of(result, lambda name: EMOJI if name == "text" else None, pixels)
            checks.equal(f"{what}{', in pixels' if pixels else ''}", [question.data(parts)], imported)


def run(arguments):
    done = subprocess.run([binary(), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise RuntimeError(f"glyph {arguments} ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


# --- labelling interfaces that do not fit ---

INTERFACES = [
    ("several choices for one", "{ field: a, kind: category }", '<Choices name="a" toName="t" choice="multiple"/>', 'add choice="single"'),
    ("a choice that is no value", "{ field: a, kind: category, values: [x, y] }", '<Choices name="a" toName="t"><Choice value="x"/><Choice value="z"/></Choices>', "offers `'z'`"),
    ("texts for numbers", "{ field: a, kind: ordinal, values: [1, 2] }", '<Choices name="a" toName="t"><Choice value="1"/></Choices>', "offers `'1'`"),
    ("a longer scale", "{ field: a, kind: ordinal, values: [1, 2] }", '<Rating name="a" toName="t" maxRating="3"/>', "offers `3`"),
    ("a scale outside", "{ field: a, kind: number, max: 4 }", '<Rating name="a" toName="t"/>', "gives 1 to 5"),
    ("any text for a value", "{ field: a, kind: category, values: [x] }", '<TextArea name="a" toName="t" maxSubmissions="1"/>', "takes any value"),
    ("several texts for one", "{ field: a, kind: text }", '<TextArea name="a" toName="t"/>', 'add maxSubmissions="1"'),
    ("regions for a choice", "{ field: a, kind: category }", '<Labels name="a" toName="t"/>', "the step asks for category"),
    ("polygons for boxes", "{ field: a, kind: boxes }", '<PolygonLabels name="a" toName="i"/>', "the step asks for boxes"),
    ("labels on a picture", "{ field: a, kind: boxes }", '<Labels name="a" toName="i"/>', "labels on `Image` have no kind of answer"),
    ("a mask", "{ field: a, kind: boxes }", '<RectangleLabels name="a" toName="i"/><BrushLabels name="b" toName="i"/>', "`BrushLabels` has no kind of answer"),
    ("another text", "{ field: a, kind: spans, text: input.body }", '<Labels name="a" toName="t"/>', "marks `$text` of the task, and `a` is about `input.body`"),
    ("two that may be meant", "{ field: a, kind: category }", '<Choices name="b" toName="t"/><Choices name="c" toName="t"/>', "may be the answer"),
    ("no place for another", "{ kind: spans, text: input.text }", '<Labels name="a" toName="t"/><Choices name="b" toName="t"/>', "no place for `b`"),
    ("no XML", "{ kind: any }", "<", "is no XML"),
]


def check_interfaces(checks):
    for what, answer, controls, part in INTERFACES:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(f"workflow:\n  id: interfaces\n  steps:\n    - id: annotate\n      type: annotation\n      answer: {answer}\n")
            file.flush()
            step = json.loads(run(["workflow", "answers", file.name, "--output", "json"]))["steps"]["annotate"]
        text = re.search(r"text: ([\w.]+)", answer)
        config = {"answer": {"text": text[1]}} if text else None
        interface = answers.Interface(f'<View><Text name="t" value="$text"/><Image name="i" value="$image"/>{controls}</View>')
        faults, _ = interface.check(answers.Question(step, config))
        checks.true(f"an interface that does not fit: {what}", any(part in fault for fault in faults), faults)
