"""The webhooks of Label Studio, and the rounds that find what they did not bring."""

import hmac
import http.server
import json
import logging
import queue
import signal
import sqlite3
import threading

from records import revision_of
from services import REQUEST_SECONDS_MAX, Answered, Away, Misfit

WEBHOOK_BYTES_MAX = 16 * 1024 * 1024
WEBHOOKS_AT_ONCE = 32
ACTIONS = ("ANNOTATION_CREATED", "ANNOTATIONS_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED")
SECRET_HEADER = "X-Glyph-Secret"

log = logging.getLogger("label-studio")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address, bridge, secret):
        super().__init__(address, Webhooks)
        self.bridge, self.secret = bridge, secret
        self.to_settle = queue.Queue()
        self.last_fault = "no round has been made yet"
        self.slots = threading.BoundedSemaphore(WEBHOOKS_AT_ONCE)

    def rounds(self, seconds, stopped):
        """Makes a round, and another one so many seconds after its end."""
        while True:
            self.last_fault = fault_of(self.bridge.round)
            if stopped.wait(seconds):
                return

    def settling(self):
        """Settles the tasks of which webhooks have come. What goes wrong, the next round finds again."""
        while True:
            number = self.to_settle.get()
            fault_of(lambda number=number: self.bridge.settle(number))
            self.to_settle.task_done()


def fault_of(work):
    """What went wrong, in a sentence that is logged too."""
    try:
        work()
    except (Away, Answered, Misfit) as error:
        log.error("%s", error)
        return str(error)
    except Exception as error:
        log.exception("it failed")
        return f"{type(error).__name__}: {error}"
    return None


class Webhooks(http.server.BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS_MAX
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        if status >= 400:
            self.close_connection = True
            self.send_header("connection", "close")
        if status == 503:
            self.send_header("retry-after", "5")
        self.end_headers()
        self.wfile.write(data)

    def is_known(self):
        given = self.headers.get(SECRET_HEADER, "")
        if hmac.compare_digest(given.encode("utf-8", "replace"), self.server.secret.encode()):
            return True
        log.warning("a request without the right %s was refused", SECRET_HEADER)
        self.answer(401, {"detail": f"the header {SECRET_HEADER} is missing or wrong"})
        return False

    def do_GET(self):
        if self.path == "/healthz":
            fault = self.server.last_fault
            self.answer(503 if fault else 200, {"fault": fault, "to_settle": self.server.to_settle.unfinished_tasks})
        elif self.path == "/refused":
            if self.is_known():
                records = self.server.bridge.records
                self.answer(200, {"annotations": records.refused(), "tasks": records.not_shown()})
        else:
            self.answer(404, {"detail": "there are POST /, GET /refused and GET /healthz"})

    def do_POST(self):
        if not self.is_known():
            return
        try:
            length = int(self.headers.get("content-length", ""))
        except ValueError:
            length = -1
        if length < 0:
            self.answer(411, {"detail": "a content-length is needed"})
        elif length > WEBHOOK_BYTES_MAX:
            log.error("a webhook of %s bytes was refused; the next round brings its annotation", length)
            self.answer(413, {"detail": f"at most {WEBHOOK_BYTES_MAX} bytes"})
        else:
            with self.server.slots:
                self.answer(*self.taken(self.rfile.read(length)))

    def taken(self, body):
        """Status and body of the answer to a webhook: 2xx only after Glyph has decided on everything in it, durably."""
        bridge = self.server.bridge
        try:
            event = json.loads(body)
            action = event["action"]
            if not isinstance(action, str):
                raise TypeError("`action` is no text")
            if action not in ACTIONS:
                return 200, {"detail": f"{action} is of no matter here"}
            if action == "ANNOTATIONS_DELETED":
                numbers = [int(one["id"]) for one in event["annotations"]]
                pairs = []
            else:
                many = action == "ANNOTATIONS_CREATED"
                pairs = list(zip(event["annotation"], event["task"])) if many else [(event["annotation"], event["task"])]
                for annotation, task in pairs:
                    if annotation["task"] != task["id"]:
                        raise ValueError("an annotation is of another task")
                    revision_of(annotation)
                    annotation["id"], annotation["result"], annotation["was_cancelled"]
                numbers = []
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("a webhook that cannot be read: %s: %s", type(error).__name__, error)
            return 400, {"detail": f"not a webhook with its payload: {type(error).__name__}: {error}"}
        told = []
        try:
            for annotation, task in pairs:
                if annotation.get("project") != bridge.studio.project:
                    told.append({"annotation": annotation["id"], "outcome": "ignored", "detail": "it is of another project"})
                    continue
                outcome = bridge.deliver(annotation, task)
                told.append({"annotation": annotation["id"], "outcome": outcome.kind, "code": outcome.code, "detail": outcome.detail})
                self.server.to_settle.put(task["id"])
            for number in numbers:
                task = bridge.delete(number)
                if task is not None:
                    self.server.to_settle.put(task)
        except (Away, Answered, Misfit, sqlite3.Error) as error:
            # Label Studio does not send again; the next round brings it.
            log.error("a webhook has to wait: %s", error)
            return 503, {"detail": str(error)}
        except Exception as error:
            log.exception("a webhook failed")
            return 500, {"detail": f"{type(error).__name__}: {error}"}
        return 200, {"outcomes": told}


def serve(bridge, listen, secret, seconds):
    host, _, port = listen.rpartition(":")
    try:
        server = Server((host.strip("[]") or "127.0.0.1", int(port)), bridge, secret)
    except (OSError, ValueError) as error:
        raise Misfit(f"--listen {listen}: {error}") from error
    stopped = threading.Event()
    # Both may be cut off anywhere: what they leave undone, the first round after the next start does.
    threading.Thread(target=server.rounds, args=(seconds, stopped), daemon=True).start()
    threading.Thread(target=server.settling, daemon=True).start()

    def stop(*_):
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.info("listening on %s:%s", *server.server_address[:2])
    server.serve_forever()
    stopped.set()


def register(studio, url, secret):
    """Makes or changes the webhook of the project, so that running it again adds none."""
    wanted = {
        "url": url, "project": studio.project, "headers": {SECRET_HEADER: secret}, "send_payload": True, "send_for_all_actions": False,
        "is_active": True, "actions": list(ACTIONS),
    }
    there = [hook for hook in studio.call("GET", f"/api/webhooks/?project={studio.project}") if hook["url"] == url]
    if there:
        studio.call("PATCH", f"/api/webhooks/{there[0]['id']}/", wanted)
    else:
        studio.call("POST", "/api/webhooks/", wanted)
    log.info("Label Studio calls %s for each annotation of project %s", url, studio.project)
