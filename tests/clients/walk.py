"""The first ten minutes, as docs/first-workflow.md tells them: its files and commands as they stand there, its links in a browser.

From a workflow of one's own to three annotators, a lead who settles a disagreement, a consumer and an export; in a folder of its own and
without any service. The build is left out: the binary under test stands for it.
"""

import csv
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

from playwright.sync_api import sync_playwright

from console import browser_of
from glyph_client import REPOSITORY, binary, free_port, wait_until

PAGE = REPOSITORY / "docs" / "first-workflow.md"
SHELL = re.compile(r"^\$ (.*)$", re.MULTILINE)
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
LINK = re.compile(r"<(http://localhost:8080[^>]*)>")
# What the three say of each item.
LABELS = {"ticket-1": ("bug", "bug", "bug"), "ticket-2": ("billing", "billing", "praise"), "ticket-3": ("bug", "billing", "praise")}
SETTLED = "billing"
MINUTES_MAX = 3  # of the machine; people read and choose in between


def main(checks):
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = browser_of(playwright)
        if browser is None:
            print("  skipped: there is no Chromium (Debian, Ubuntu: package chromium)", flush=True)
            return
        with browser:
            walk = Walk(pathlib.Path(folder), PAGE.read_text())
            began = time.monotonic()
            try:
                walk.go(checks, browser)
            finally:
                walk.end()
        seconds = time.monotonic() - began
        checks.true(f"all of it takes the machine {seconds:.0f} s", seconds < MINUTES_MAX * 60)


class Walk:
    def __init__(self, folder, text):
        self.port = free_port()
        self.folder = folder
        self.text = text
        (folder / "bin").mkdir()
        (folder / "bin" / "glyph").symlink_to(binary())
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("GLYPH_", "OTEL_", "DATABASE_", "AMQP_"))}
        self.environment = inherited | {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "GLYPH_HTTP_ADDR": f"127.0.0.1:{self.port}"}
        self.processes = []

    def go(self, checks, browser):
        parts = {part.split("\n", 1)[0]: part for part in re.split(r"^## ", self.text, flags=re.MULTILINE)[1:]}
        build, say, start, label, hear, take = list(parts.values())[:6]
        checks.true("the page builds what is walked with here", "cargo build --release -p glyph-worker" in build)
        (exports,) = [line for line in SHELL.findall(build) if "DATABASE_URL" in line]
        self.before = exports

        self.save(say, "yaml", "tickets.yaml")
        for line in SHELL.findall(say):
            self.run(checks, line)
        self.save(start, "csv", "items.csv")
        for line in SHELL.findall(start):
            if line.endswith("&"):
                self.leave_running(line.removesuffix("&"))
                wait_until("the worker answers", self.is_ready, 60)
            else:
                self.run(checks, line)
        wait_until("the items are tasks", lambda: self.out("glyph task list").count("tickets@1") == 3, 30)

        self.annotate(checks, browser, LINK.findall(label))
        for line in SHELL.findall(label):
            self.run(checks, line)

        self.save(hear, "python", "consumer.py")
        (consumer,) = SHELL.findall(hear)
        heard = self.leave_running(consumer)
        wait_until("the consumer hears of each result", lambda: heard().count("\n") == 3, 30)
        checks.equal("each result once, and how it came about", sorted(line.split(" ", 1)[1] for line in heard().splitlines()), [
            "billing adjudication", "billing majority_vote", "bug majority_vote"])

        for line in SHELL.findall(take):
            self.run(checks, line)
        with open(self.folder / "labels.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        found = sorted((row["step"], row["value"]) for row in rows)
        checks.equal("the export has every label", found, [("adjudicate", "billing"), ("annotate", ""), ("annotate", "billing"), ("annotate", "bug")])
        self.look(checks, browser, *LINK.findall(start))

    def annotate(self, checks, browser, links):
        checks.equal("three annotators and a lead have a link each", len(links), 4)
        for number, link in enumerate(links[:3]):
            page = self.begin(browser, link, "Tickets of the support: What is it about?")
            for _ in LABELS:
                item = page.get_by_text(re.compile(r"^ticket-\d$"))
                ticket = item.inner_text()
                page.get_by_role("radio", name=LABELS[ticket][number]).check()
                page.get_by_role("button", name="Submit and next").click()
                wait_until("the next one is there", lambda: not item.is_visible() or item.inner_text() != ticket, 15)
            page.get_by_text("There is nothing to do for you right now.").wait_for()
            page.close()
        page = self.begin(browser, links[3], "Tickets of the support: Adjudicate")
        checks.true("the lead decides what the three differ on", page.get_by_text("ticket-3").is_visible())
        page.get_by_role("radio", name=SETTLED).check()
        page.get_by_role("button", name="Submit and next").click()
        page.get_by_text("There is nothing to do for you right now.").wait_for()
        page.close()

    def begin(self, browser, link, heading):
        page = browser.new_page()
        page.goto(self.here(link))
        page.get_by_role("button", name="Begin").click()
        page.get_by_role("heading", level=1, name=heading).wait_for()
        return page

    def look(self, checks, browser, console):
        """The console, from its front page to the trial, as the page says."""
        page = browser.new_page()
        faults = []
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(self.here(console))
        page.get_by_role("link", name="Workflows").click()
        page.get_by_role("link", name="tickets", exact=True).click()
        page.locator(".diagram .went").first.wait_for()
        ways = {tuple(row.split("\t")[:4]) for row in page.locator("section:has(h2:text-is('Ways that were gone')) tbody tr").all_inner_texts()}
        checks.true("the drawing shows what went which way", len(ways) == 3, ways)
        page.get_by_role("link", name="Try it").click()
        page.get_by_text("Labels a task").wait_for()
        checks.true("a trial is played with sliders", page.locator(".tile:has-text('Labels a task') strong").inner_text() == "3.00")
        checks.equal("no script fails", faults, [])
        page.close()

    # --- a terminal ---

    def here(self, text):
        return text.replace("localhost:8080", f"127.0.0.1:{self.port}")

    def save(self, text, kind, name):
        (block,) = [block for found, block in BLOCK.findall(text) if found == kind]
        (self.folder / name).write_text(self.here(block))

    def run(self, checks, line):
        done = self.shell(line)
        checks.true(f"$ {line}", done.returncode == 0, done.stdout[-300:] + done.stderr[-300:])

    def out(self, line):
        return self.shell(line).stdout

    def shell(self, line):
        return subprocess.run(
            ["bash", "-c", f"set -o pipefail; {self.before}; {line}"], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=60,
        )

    def leave_running(self, line):
        """Starts a command that goes on; returns what reads its output so far."""
        log = self.folder / f"{len(self.processes)}.log"
        with open(log, "w") as file:
            self.processes.append(subprocess.Popen(
                ["bash", "-c", f"{self.before}; exec {line}"], cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file))
        return log.read_text

    def is_ready(self):
        return self.shell(f"curl --fail --silent http://127.0.0.1:{self.port}/readyz").returncode == 0

    def end(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(30)
