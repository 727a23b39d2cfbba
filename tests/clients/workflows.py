"""Runs every example workflow over RabbitMQ, by the scripts that `glyph workflow dry-run` simulates without services.

The dry run gives the expected results: the outcome of each move, the steps in which the task then is, the steps
completed, the transitions taken and the output. The same moves then go through a broker, a database and a worker, and
the results must be equal, each message once and in order.
"""

import concurrent.futures
import contextlib
import json
import re
import subprocess
import tempfile
import uuid

import yaml

from glyph_client import REPOSITORY, Broker, Deployment, binary, derived, fresh, wait_until

EXAMPLES = REPOSITORY / "examples"
MOVE_SECONDS_MAX = 30
# Replaces each timeout that a script lets expire: short enough to wait for, and long enough for a busy machine to make
# the moves before it expires.
QUICK = "10s"
TIMEOUT = re.compile(r"\b(default_timeout|timeout): \d+[smhd]\b")
ACTIONS = ("submit", "assign", "release", "activity", "advance", "pause", "resume", "cancel", "retry")
# Moves that are no commands to one task.
ACTIONS_OF_DRY_RUNS = ("next", "migrate", "workflow_pause", "workflow_resume", "workflow_archive", "workflow_restore")
COMPARED = {"step_completed": "dev.glyph.step.completed.v1", "transition_occurred": "dev.glyph.transition.occurred.v1"}


def main(checks):
    scripts = [Script(file) for file in sorted((EXAMPLES / "scripts").glob("*.yaml"))]
    checks.true("there are scripts", scripts)
    with Deployment("workflows") as glyph:
        create_all(checks, glyph)
        for workflow in sorted({script.workflow for script in scripts if script.lets_time_pass}):
            glyph.create_workflow(quick(workflow.read_text()))
        worker = glyph.start_worker()
        with Broker(glyph) as broker:
            messages = broker.listen("check", "events", "#")
            players = [Player(script, glyph, worker) for script in scripts if script.can_be_played]
            # In parallel, as some spend their time waiting.
            with concurrent.futures.ThreadPoolExecutor(len(players)) as threads:
                for played in [threads.submit(player.play, checks) for player in players]:
                    played.result()
            wait_until("outbox empty", glyph.outbox_is_empty, 30)
            received = [message.json for message in broker.drain(messages)]
        seen = [message["id"] for message in received]
        checks.equal("each message came once", len(seen), len(set(seen)))
        for player in players:
            player.compare_messages(checks, received)
        checks.all("no gaps in the streams", glyph.version_faults())


def create_all(checks, glyph):
    """Creates all workflows. Some name others, which must exist first, so it repeats until no more can be added."""
    waiting = sorted(EXAMPLES.glob("*.yaml"))
    while waiting:
        refused = []
        for file in waiting:
            try:
                glyph.glyph("workflow", "create", str(file))
            except RuntimeError as error:
                refused.append((file, error))
        if len(refused) == len(waiting):
            break
        waiting = [file for file, _ in refused]
    else:
        refused = []
    checks.all("every example can be created", [f"{file.name}: {error}" for file, error in refused])


def quick(text):
    """A workflow whose timeouts are short enough to wait for."""
    return TIMEOUT.sub(rf"\1: {QUICK}", text)


class Script:
    """A file of moves, and its example."""

    def __init__(self, file):
        self.name = file.stem
        self.workflow = EXAMPLES / f"{file.stem.split('.')[0]}.yaml"
        # libyaml, as the worker uses: the loader in Python refuses a `?` at the end of a text.
        self.content = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
        self.moves = self.content["moves"]
        self.lets_time_pass = any("pass" in move for move in self.moves)
        for move in self.moves:
            if "pass" in move:
                move["pass"] = QUICK
        only_in_dry_runs = [key for move in self.moves for key in ACTIONS_OF_DRY_RUNS if key in move]
        self.can_be_played = "handlers" not in self.content and not only_in_dry_runs
        if not self.can_be_played:
            what = ", ".join(sorted(set(only_in_dry_runs))) or "handlers"
            print(f"  (left out, it needs what is not here, {what}: {file.name})")

    def dry_run(self):
        with contextlib.ExitStack() as files:
            # In the folder of the script, which may name other files.
            script = files.enter_context(tempfile.NamedTemporaryFile("w", suffix=".yaml", dir=EXAMPLES / "scripts"))
            yaml.safe_dump(self.content, script)
            script.flush()
            workflow = self.workflow
            if self.lets_time_pass:
                file = files.enter_context(tempfile.NamedTemporaryFile("w", suffix=".yaml"))
                file.write(quick(workflow.read_text()))
                file.flush()
                workflow = file.name
            done = subprocess.run(
                [binary(), "--output", "json", "workflow", "dry-run", str(workflow), "--script", script.name],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            )
        if done.returncode != 0:
            raise RuntimeError(f"the dry run of {self.name} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout)


class Player:
    """One script on one task."""

    def __init__(self, script, glyph, worker):
        self.name = script.name
        self.script = script.content
        self.glyph = glyph
        self.worker = worker
        self.trace = script.dry_run()
        self.task = fresh()

    def play(self, checks):
        # A separate connection: threads cannot share one.
        with Broker(self.glyph) as self.broker:
            self.replies = self.broker.own_queue(f"replies-{self.name}")
            self.play_moves(checks)

    def play_moves(self, checks):
        faults = []
        start = {"workflow": self.trace["workflow"]}
        start |= {key: self.script[key] for key in ("input", "labels", "expected") if key in self.script}
        moves = [{"start": start}, *self.script["moves"]]
        events = 0
        for move, planned in zip(moves, self.trace["steps"], strict=True):
            events += sum(event["task_id"] == self.trace["task_id"] for event in planned["happened"])
            if "pass" in move:
                outcome = self.await_version(events)
            else:
                outcome = self.send(move)
            if outcome != planned["outcome"]:
                faults.append(f"{planned['action']}: {outcome} instead of {planned['outcome']}")
            try:
                wait_until(
                    f"{self.name}, after {planned['action']}: at {planned['active']}",
                    lambda: self.state(self.task)["current_steps"] == planned["active"],
                    MOVE_SECONDS_MAX,
                )
            except TimeoutError as error:
                faults.append(str(error))
        checks.all(f"{self.name}: every move comes out as in the dry run", faults)
        state = self.state(self.task)
        checks.equal(f"{self.name}: status", state["status"], self.trace["status"])
        checks.equal(f"{self.name}: output", comparable(state.get("output")), comparable(self.trace["output"]))

    def await_version(self, version):
        """Waits until time has the same effect as in the dry run; returns it in the words of the dry run."""
        wait_until(f"{self.name}: version {version}", lambda: self.state(self.task)["version"] >= version, MOVE_SECONDS_MAX)
        status = self.state(self.task)["status"]
        return "waiting" if status == "running" else status

    def send(self, move):
        """Sends a move as a command and returns its outcome, in the words of the dry run."""
        action = next(action for action in ("start", *ACTIONS) if action in move)
        fields = dict(move[action] or {})
        person = fields.pop("by", None)
        if person:
            fields["user_id"] = derived("person", person)
            if roles := (self.script.get("people", {}).get(person) or {}).get("roles"):
                fields["roles"] = roles
        if action == "submit":
            fields.setdefault("data", None)
            step = {"step": fields.pop("step")} if "step" in fields else {}
            fields = step | {"annotation": fields}
        if "step" in fields:
            fields["step_id"] = fields.pop("step")
        kind = "submission" if action == "submit" else action
        command = fields | {"type": kind, "command_id": fresh(), "task_id": self.task_of(move)}
        self.broker.publish(kind, command, reply_to=self.replies, correlation_id=command["command_id"])
        (reply,) = wait_until(f"{self.name}: an answer", lambda: self.broker.drain(self.replies), MOVE_SECONDS_MAX)
        reply = reply.json
        return reply["result"]["status"] if reply["outcome"] == "applied" else reply["reason"]

    def task_of(self, move):
        """The task of the script, or the child for which one of its steps waits."""
        task = self.task
        for step in filter(None, move.get("within", "").split("/")):
            parent = task
            visit = wait_until(f"a visit of {step}", lambda: self.visits(parent, step), MOVE_SECONDS_MAX)
            task = str(uuid.uuid5(uuid.UUID(parent), f"{step}/{visit}"))
            wait_until(f"the child task of {step}", lambda: self.worker.get(f"/api/v1/tasks/{task}/state")[0] == 200, MOVE_SECONDS_MAX)
        return task

    def visits(self, task, step):
        return len(self.state(task)["steps"].get(step, {}).get("visits", []))

    def state(self, task):
        status, text = self.worker.get(f"/api/v1/tasks/{task}/state")
        if status != 200:
            raise RuntimeError(f"the state of {task} answered {status}: {text}")
        return json.loads(text)

    def compare_messages(self, checks, received):
        """Steps completed and transitions taken, of the task itself, in order."""
        happened = [event for step in self.trace["steps"] for event in step["happened"]]
        planned = [
            (COMPARED[event["event_type"]], *place(event["event_data"]))
            for event in happened
            if event["event_type"] in COMPARED and event["task_id"] == self.trace["task_id"]
        ]
        own = [message for message in received if message["subject"] == self.task]
        told = [(message["type"], *place(message["data"])) for message in own if message["type"] in COMPARED.values()]
        checks.equal(f"{self.name}: {len(planned)} steps and transitions, in order", told, planned)
        sequence = [message["sequence"] for message in own if "sequence" in message]
        checks.equal(f"{self.name}: messages in the order of versions", sequence, sorted(sequence))


def place(data):
    """The place of an event and its result."""
    if "from_step" in data:
        return data["from_step"], data["to_step"], data["condition_met"]
    return data["step_id"], data["visit"], json.dumps(comparable(data["result"]), sort_keys=True)


def comparable(value):
    """Without the ids of annotations, which differ from run to run."""
    if isinstance(value, dict):
        return {key: comparable(inner) for key, inner in value.items() if key != "annotations"}
    if isinstance(value, list):
        return [comparable(inner) for inner in value]
    return value
