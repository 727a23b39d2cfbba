"""Three hosts on a network that is cut: on each a node of the RabbitMQ cluster, and a worker that knows this node alone; PostgreSQL elsewhere.

The hosts are network namespaces on one machine, so only root may run this. A host that is cut off loses everything at once, as when its
cable is pulled, and the worker on it goes on by itself; the others must go on too. One host after the other is cut off, then the invariants
(invariants.py) are checked.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile
import time

import invariants
from glyph_client import Broker, Deployment, free_port, wait_until
from load import OPTIONAL, ORDINARY, Commands, Handlers, Journal, Producer, Recorder, create_workflows
from proxy import Proxy
from servers import Postgres, RabbitMq

PER_SECOND = 60
USUAL_SECONDS = 5
CUT_SECONDS = 25
GO_ON_SECONDS_MAX = 30  # until what the cut has held up is decided, by the others
BACK_SECONDS_MAX = 90
DRAIN_SECONDS_MAX = 120
NETWORK = "10.213.77"
OUTSIDE = f"{NETWORK}.254"  # this machine, as the hosts see it
BRIDGE = "glyph-net"


def ip(*arguments):
    subprocess.run(["ip", *arguments], check=True)


class Host:
    """A network namespace with an address on the bridge. Its names are in a file that `ip netns exec` shows it as /etc/hosts."""

    def __init__(self, number):
        self.name = f"glyph-{number}"
        self.address = f"{NETWORK}.{number}"
        self.cable = f"glyph-cable-{number}"
        self.etc = pathlib.Path("/etc/netns") / self.name

    def create(self, hosts):
        self.etc.mkdir(parents=True, exist_ok=True)
        names = "".join(f"{host.address} {host.name}\n" for host in hosts)
        (self.etc / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
        ip("netns", "add", self.name)
        ip("link", "add", self.cable, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        ip("link", "set", self.cable, "master", BRIDGE, "up")
        ip("-n", self.name, "address", "add", f"{self.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", self.name, "link", "set", device, "up")

    def within(self, command, user=None):
        as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        return ["ip", "netns", "exec", self.name, *as_user, *command]

    def cut(self):
        ip("link", "set", self.cable, "down")

    def heal(self):
        ip("link", "set", self.cable, "up")

    def remove(self):
        subprocess.run(["ip", "netns", "delete", self.name], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.etc, ignore_errors=True)


def main(checks):
    if os.geteuid() != 0:
        print("  left out: only root may make hosts")
        return
    folder = pathlib.Path(tempfile.mkdtemp(prefix="glyph-hosts."))
    folder.chmod(0o711)  # the servers run as other users
    hosts = [Host(number) for number in range(1, RabbitMq.COUNT + 1)]
    try:
        ip("link", "add", BRIDGE, "type", "bridge")
        ip("address", "add", f"{OUTSIDE}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        for host in hosts:
            host.create(hosts)
        run(checks, folder, hosts)
    finally:
        for host in hosts:
            host.remove()
        subprocess.run(["ip", "link", "delete", BRIDGE], stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)


def run(checks, folder, hosts):
    broker, database = RabbitMq(folder, hosts), Postgres(folder)
    try:
        broker.launch()
        database.start()
        broker.await_whole()
        with Deployment("hosts", database.url, broker.url) as glyph:
            play(checks, glyph, broker, database, hosts)
    finally:
        database.stop()
        broker.stop()


def play(checks, glyph, broker, database, hosts):
    journal = Journal()
    handlers = Handlers(journal, seed=1)
    to_database = Proxy("database", lambda: [database.primary.port], OUTSIDE)
    to_handlers = Proxy("handlers", lambda: [handlers.port], OUTSIDE)
    create_workflows(glyph, f"http://{OUTSIDE}:{to_handlers.port}")
    workers = [start_worker(glyph, host, node, to_database.port, f"{OUTSIDE}:{to_handlers.port}") for host, node in zip(hosts, broker.nodes)]
    with Broker(glyph) as link:
        Recorder.declare(link)
    with handlers, Producer(glyph, journal, Commands(1, ()), PER_SECOND) as producer, Recorder(glyph, journal, producer.ask) as recorder:
        usual = glyph.decided_per_second(USUAL_SECONDS)
        print(f"          {usual:.0f} commands/s on three hosts", flush=True)
        for host, worker in zip(hosts, workers):
            cut_off(checks, glyph, journal, host, worker, usual)
            # Two must not be away: the rest of the cluster would be a minority.
            broker.await_whole()
        handlers.is_hostile = False
        producer.finish()
        invariants.work_off(glyph, journal, producer, DRAIN_SECONDS_MAX)
        invariants.check_settled(checks, glyph, journal)
        checks.equal("the workers stop in order", [worker.terminate() for worker in workers], [0] * len(workers))
        invariants.check_rebuild(checks, glyph)
        checks.equal("the producer and the recorder never failed", [producer.failure, recorder.failure], [None, None])
        checks.all("no panic in a worker's log", [w.log.name for w in workers if "panicked" in w.log.read_text(errors="replace")])
    for link in (to_database, to_handlers):
        link.close()


def start_worker(glyph, host, node, database_port, webhooks):
    port = free_port()
    return glyph.start_worker(
        "--no-http", health_port=port, host=host,
        DATABASE_URL=f"postgres://postgres@{OUTSIDE}:{database_port}/{glyph.name}?sslmode=disable",
        AMQP_URL=f"amqp://guest:guest@{node.host.address}:{node.port}/%2f",
        GLYPH_METRICS_ADDR=f"0.0.0.0:{port}",
        GLYPH_WEBHOOK_HOSTS=webhooks, GLYPH_WEBHOOK_ALLOW_PRIVATE="true", GLYPH_WEBHOOK_SECRET="0123456789abcdef",
    )


def cut_off(checks, glyph, journal, host, worker, usual):
    """Cuts a host off for a while; the others decide what it held, and it comes back by itself."""
    host.cut()
    began = time.monotonic()
    waiting = journal.sent(ORDINARY, OPTIONAL)
    checks.true(f"{host.name} is cut off", not worker.is_ready())
    decided_before = glyph.value("SELECT count(*) FROM commands")
    wait_until("the others go on", lambda: glyph.value("SELECT count(*) FROM commands") > decided_before, GO_ON_SECONDS_MAX)
    went_on = time.monotonic() - began
    time.sleep(max(0, CUT_SECONDS - went_on))
    host.heal()
    healed = time.monotonic()
    wait_until(f"the worker on {host.name} is back", worker.is_ready, BACK_SECONDS_MAX)
    back = time.monotonic() - healed
    wait_until("throughput is back", lambda: glyph.decided_per_second(3) >= 0.8 * usual, BACK_SECONDS_MAX)
    wait_until("what was sent is decided", lambda: not invariants.undecided(glyph, waiting), BACK_SECONDS_MAX)
    print(f"          {host.name} was away for {healed - began:.0f} s: the others went on after {went_on:.1f} s, it was ready after {back:.1f} s",
          flush=True)
