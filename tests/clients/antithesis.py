"""The test commands of deploy/antithesis, run by hand on a deployment of two workers: as Antithesis would, with kills as the only faults.

`--whole` also runs the singleton driver, whose last command is dead after a minute and a half, and what comes after it.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from glyph_client import LOGS, REPOSITORY, Deployment, binary, free_port, wait_until

TEMPLATE = REPOSITORY / "deploy" / "antithesis" / "test" / "glyph"
KINDS = ("first_", "parallel_driver_", "singleton_driver_", "serial_driver_", "anytime_", "eventually_", "finally_")
COMMAND_SECONDS_MAX = 400
WORKERS = 2
PARALLEL = 3
KILLS = 3


def main(checks, whole):
    files = [path for path in sorted(TEMPLATE.iterdir()) if path.is_file()]
    commands = [path for path in files if not path.name.startswith("helper_")]
    checks.all("each file is a test command or a helper", [path.name for path in commands if not path.name.startswith(KINDS)])
    checks.all("commands can be executed", [p.name for p in commands if not (os.access(p, os.X_OK) and p.read_text().startswith("#!"))])
    with tempfile.TemporaryDirectory() as folder, Deployment("antithesis") as glyph:
        port = free_port()
        webhooks = f"127.0.0.1:{port}"
        settings = {"GLYPH_WEBHOOK_HOSTS": webhooks, "GLYPH_WEBHOOK_ALLOW_PRIVATE": "true", "GLYPH_WEBHOOK_SECRET": "0123456789abcdef"}
        workers = [glyph.start_worker(**settings) for _ in range(WORKERS)]
        run = Template(glyph, folder, WORKLOAD_ADDRESS=webhooks, WORKLOAD_WEBHOOKS=f"http://{webhooks}")
        with run.start("helper_workload.py") as serving:
            try:
                wait_until("setup complete", lambda: run.reported("antithesis_setup"), 60)
                drivers = [run.start("parallel_driver_submit.py") for _ in range(PARALLEL)] + [run.start("anytime_versions.py")]
                for kill in range(KILLS):
                    victim = workers[kill % WORKERS]
                    victim.kill()
                    victim.start()
                    victim.wait_until_ready()
                run.ended(checks, drivers)
                run.ended(checks, [run.start("eventually_settled.py")])
                if whole:
                    run.ended(checks, [run.start("singleton_driver_submit.py")])
                    run.ended(checks, [run.start("finally_settled.py")])
                checks.true("the workload still serves", serving.poll() is None)
            finally:
                serving.kill()
        asserted = run.reported("antithesis_assert")
        checks.all(f"{len(asserted)} assertions hold", [each for each in asserted if not each["condition"]])
        checks.equal("workers stop in order", [worker.terminate() for worker in workers], [0] * WORKERS)


class Template:
    """Runs commands with the environment that the image gives them."""

    def __init__(self, glyph, folder, **settings):
        self.output = pathlib.Path(folder)
        journal = str(self.output / "journal.jsonl")
        self.environment = glyph.environment(GLYPH_BIN=binary(), ANTITHESIS_OUTPUT_DIR=folder, WORKLOAD_JOURNAL=journal, **settings)
        self.name = glyph.name

    def start(self, command):
        with open(LOGS / f"{self.name}-{command}.log", "ab") as log:
            process = subprocess.Popen([sys.executable, TEMPLATE / command], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        process.command = command
        return process

    def ended(self, checks, processes):
        for process in processes:
            checks.equal(f"{process.command} ends well", process.wait(COMMAND_SECONDS_MAX), 0)

    def reported(self, kind):
        file = self.output / "sdk.jsonl"
        lines = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
        return [line[kind] for line in lines if kind in line]
