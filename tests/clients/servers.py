"""Servers that a check may break: PostgreSQL with a synchronous standby, and a RabbitMQ cluster of three nodes.

All is kept under one folder and on ports of its own, and nothing listens beyond 127.0.0.1. Run as root, the servers run as the users of
their packages, as neither likes to be root; otherwise as the caller.
"""

import os
import pathlib
import re
import secrets
import shutil
import signal
import subprocess

import pika
import psycopg2

from glyph_client import Here, connect, execute, free_port, wait_until
from proxy import Proxy

START_SECONDS_MAX = 90
STOP_SECONDS_MAX = 30
RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"


class Server:
    """A process with all its children."""

    def __init__(self, name, user, folder, command, environment, host=Here):
        self.name = name
        self.host = host
        self.user = user if host is Here else "root"  # who may enter another host
        self.command = host.within(command, user)
        self.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment}
        self.log = folder / f"{name}.log"
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, **as_user(self.user),
            )

    def lives(self):
        return self.process is not None and self.process.poll() is None

    def signal_all(self, number):
        """Signals the whole tree. The main process is stopped first, so that it cannot fork meanwhile."""
        self.process.send_signal(signal.SIGSTOP)
        for pid in [*descendants(self.process.pid), self.process.pid]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass  # it ended by itself

    def kill(self):
        if self.lives():
            self.signal_all(signal.SIGKILL)
            self.process.wait()

    def pause(self):
        self.signal_all(signal.SIGSTOP)

    def resume(self):
        self.signal_all(signal.SIGCONT)

    def stop(self, number):
        """An orderly stop; a server that does not obey in time is killed."""
        if not self.lives():
            return
        self.resume()
        self.process.send_signal(number)
        try:
            self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()

    def is_paused(self):
        return is_stopped(self.process.pid)


def is_stopped(pid):
    """Whether the system shows the process as stopped by a signal."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def descendants(pid):
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:
            continue  # the thread has ended
        for child in children:
            found += [child, *descendants(child)]
    return found


def as_user(user):
    """Arguments of a process that runs as this user, if the caller may say so."""
    return {"user": user, "group": user, "extra_groups": []} if os.geteuid() == 0 else {}


def give(path, user):
    if os.geteuid() == 0:
        shutil.chown(path, user, user)


class Postgres:
    """A primary and its synchronous standby. The standby takes over at an address that stays: `url`.

    What the primary acknowledges is on both, so a takeover loses none of it.
    """

    SETTINGS = {
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "log_line_prefix": "%m [%p] %d ",
        "max_wal_size": "256MB",
    }

    def __init__(self, folder):
        self.folder = folder
        self.bin = postgres_bin()
        self.number = 0
        self.primary = self.standby = None
        self.replication = Proxy("replication", lambda: [self.primary.port])
        self.address = Proxy("postgres", lambda: [self.primary.port])
        self.url = f"postgres://postgres@127.0.0.1:{self.address.port}/postgres"

    def start(self):
        data = self.data_of(1)
        self.run("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        self.primary = self.launch(data)
        self.add_standby()

    def data_of(self, number):
        data = self.folder / f"postgres-{number}"
        data.mkdir(mode=0o700)
        give(data, "postgres")
        self.number = number
        return data

    def run(self, program, *arguments):
        with open(self.folder / f"{program}.log", "ab") as log:
            subprocess.run([f"{self.bin}/{program}", *arguments], check=True, stdout=log, stderr=log, env={"LC_ALL": "C.UTF-8"},
                           timeout=START_SECONDS_MAX, **as_user("postgres"))

    def launch(self, data):
        port = free_port()
        settings = [f"-c{name}={value}" for name, value in self.SETTINGS.items()]
        server = Server(data.name, "postgres", self.folder, [f"{self.bin}/postgres", "-D", data, "-p", str(port), *settings], {})
        server.port = port
        server.start()
        wait_until(f"{data.name} answers", lambda: answers(port), START_SECONDS_MAX)
        return server

    def direct_url(self, server):
        return f"postgres://postgres@127.0.0.1:{server.port}/postgres"

    def add_standby(self):
        """Copies the primary. From then on each commit waits for the copy."""
        data = self.data_of(self.number + 1)
        name = data.name.replace("-", "_")
        source = f"host=127.0.0.1 port={self.replication.port} user=postgres application_name={name}"
        self.run("pg_basebackup", "-D", data, "-d", source, "-c", "fast", "-X", "stream", "-R", "-N")
        self.standby = self.launch(data)
        url = self.direct_url(self.primary)
        execute(url, f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        execute(url, "SELECT pg_reload_conf()")
        wait_until("the standby is synchronous", lambda: execute(url, "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"), 60)

    def kill(self, server):
        server.kill()
        # A server that is killed leaves a segment of shared memory behind, which outlives its folder.
        segment = (self.folder / server.name / "postmaster.pid").read_text().splitlines()[6].split()[1]
        subprocess.run(["ipcrm", "--shmem-id", segment], check=True)

    def fail_over(self):
        """Kills the primary and makes the standby the primary. There is no other one until `add_standby`."""
        self.kill(self.primary)
        self.address.drop()
        # It must not wait for a standby of its own before there is one.
        promoted, self.standby = self.standby, None
        execute(self.direct_url(promoted), "SELECT pg_promote(true, 60)")
        self.primary = promoted

    def stop(self):
        for server in (self.standby, self.primary):
            if server:
                self.kill(server)
        self.replication.close()
        self.address.close()


def postgres_bin():
    """The newest server of the distribution; GLYPH_POSTGRES_BIN names the folder of another."""
    found = [str(path.parent) for path in pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return os.environ.get("GLYPH_POSTGRES_BIN") or max(found, key=lambda path: int(path.split("/")[4]))


def answers(port):
    try:
        psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres", connect_timeout=5).close()
    except psycopg2.OperationalError:
        return False
    return True


class RabbitMq:
    """Three nodes. A minority that is cut off stops, as docs/operations.md advises."""

    CONFIGURATION = """
        loopback_users.guest = false
        max_message_size = 16777216
        disk_free_limit.absolute = 50MB
        cluster_partition_handling = pause_minority
        net_ticktime = 12
        cluster_formation.peer_discovery_backend = classic_config
        cluster_formation.discovery_retry_limit = 4
    """
    COUNT = 3

    def __init__(self, folder, hosts=(Here,) * COUNT):
        base = folder / "rabbitmq"
        base.mkdir()
        self.cookie = secrets.token_hex(8)
        write(base / ".erlang.cookie", self.cookie, 0o400)
        write(base / "enabled_plugins", "[].\n", 0o644)
        names = [f"n{number}@{host.name}" for number, host in enumerate(hosts, 1)]
        members = [f"cluster_formation.classic_config.nodes.{n} = {name}" for n, name in enumerate(names, 1)]
        lines = [line.strip() for line in self.CONFIGURATION.splitlines()] + members
        write(base / "rabbitmq.conf", "\n".join(lines) + "\n", 0o644)
        give(base, "rabbitmq")
        self.environment = {
            "HOME": str(base), "LANG": "C.UTF-8", "ERL_EPMD_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(base), "RABBITMQ_LOG_BASE": str(base),
            "RABBITMQ_CONFIG_FILE": str(base / "rabbitmq.conf"), "RABBITMQ_ENABLED_PLUGINS_FILE": str(base / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        }
        # Erlang's port mapper outlives the nodes, so it is a process of its own, which ends with them.
        self.mappers = [self.mapper(folder, host) for host in dict.fromkeys(hosts)]
        self.nodes = [self.node(folder, base, name, host) for name, host in zip(names, hosts)]
        self.turn = 0
        self.address = Proxy("rabbitmq", self.ports)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.address.port}/%2f"

    def mapper(self, folder, host):
        command = ["epmd", "-port", self.environment["ERL_EPMD_PORT"], "-address", host.address]
        return Server(f"epmd-{host.name}", "rabbitmq", folder, command, self.environment, host)

    def node(self, folder, base, name, host):
        port = free_port()
        interface = host.address.replace(".", ",")
        own = {
            "RABBITMQ_NODENAME": name, "RABBITMQ_NODE_PORT": str(port), "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_PID_FILE": str(base / f"{name}.pid"), "RABBITMQ_NODE_IP_ADDRESS": host.address, "ERL_EPMD_ADDRESS": host.address,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-kernel inet_dist_use_interface {{{interface}}} +sbwt none",
        }
        node = Server(name, "rabbitmq", folder, [RABBITMQ], self.environment | own, host)
        node.port = port
        return node

    def ports(self):
        """Hosts and ports of all nodes, each time from another one on, as a load balancer in front of the cluster has them."""
        self.turn += 1
        first = self.turn % self.COUNT
        return [(node.host.address, node.port) for node in self.nodes[first:] + self.nodes[:first]]

    def launch(self):
        for mapper in self.mappers:
            mapper.start()
        for node in self.nodes:
            node.start()

    def await_whole(self):
        """Waits until every node serves, and sees all others."""
        for node in self.nodes:
            wait_until(f"{node.name} serves", lambda: serves(node) or not node.lives(), START_SECONDS_MAX)
            if not node.lives():
                raise RuntimeError(f"{node.name} ended: {node.log.read_text()[-2000:]}")
            wait_until(f"{node.name} sees all", lambda: self.sees(node) == self.COUNT, START_SECONDS_MAX)

    def sees(self, node):
        """How many running nodes of the cluster a node knows; 0 where it does not answer."""
        found = self.evaluate(node, "length([N || N <- [node() | nodes()], rabbit:is_running(N)]).")
        return int(found) if found.isdigit() else 0

    def evaluate(self, node, expression):
        """What an expression gives on a node, as text; empty where the node does not answer."""
        caller = node.host.within(["erl_call", "-sname", node.name, "-c", self.cookie, "-e"], "rabbitmq")
        done = subprocess.run(caller, input=f"{expression}\n", capture_output=True, text=True, env=self.environment, timeout=30)
        matched = re.fullmatch(r"\{ok, (.*)\}", done.stdout.strip(), re.DOTALL)
        return matched[1] if matched else ""

    def evaluate_on_any(self, expression):
        """What an expression gives on the first node that answers, as text; empty where none does."""
        return next((found for node in self.at_work() if (found := self.evaluate(node, expression))), "")

    def at_work(self):
        """The nodes that can answer."""
        return [node for node in self.nodes if node.lives() and not node.is_paused()]

    def dead_lettering(self):
        """The queues that dead-letter messages and have no confirm for them, which no depth of theirs counts; None where no node answers."""
        lookup = "[{N, I} || Q <- rabbit_amqqueue:list(), {resource, _, queue, N} <- [amqqueue:get_name(Q)], I <- [rabbit_amqqueue:info(Q, [messages_dlx])], I =/= [{messages_dlx, 0}]]."
        said = self.evaluate_on_any(lookup)
        return set(re.findall(r'<<"([^"]+)">>', said)) if said else None

    def unacknowledged(self):
        """Of each channel with deliveries that a client has not acknowledged: its number of them, and who it is."""
        lookup = "[I || I <- rabbit_channel:info_all([messages_unacknowledged, consumer_count, prefetch_count, number, connection, pid]), hd(I) =/= {messages_unacknowledged, 0}]."
        return self.evaluate_on_any(lookup)

    def consumers_of(self, queue):
        """What the leader of a quorum queue has of each of its consumers: whether its channel lives, its tag, its channel, and its other fields, with
        the number of entries in place of a map. The one map of a consumer is what it has not acknowledged."""
        lookup = (
            f'{with_queue(queue)},'
            " Short = fun(E) when is_map(E) -> {entries, map_size(E)}; (E) -> E end,"
            " Lives = fun(P) -> rpc:call(node(P), erlang, is_process_alive, [P]) end,"
            " {ok, {_, Found}, _} = ra:leader_query(amqqueue:get_pid(Q), fun(S) -> [{Tag, Pid, [Short(E) || E <- tuple_to_list(Has)]}"
            " || M <- tuple_to_list(S), is_map(M), {{Tag, Pid}, Has} <- maps:to_list(M), is_pid(Pid), is_tuple(Has)] end),"
            " [{Lives(Pid), Tag, Pid, Has} || {Tag, Pid, Has} <- Found]."
        )
        return self.evaluate_on_any(lookup)

    def with_orphans(self):
        """The queues that keep deliveries for consumers whose channels are gone."""
        return {queue for queue, (_, unacknowledged) in self.depths().items() if unacknowledged and "{false," in self.consumers_of(queue)}

    def move(self, queue):
        """Gives a quorum queue another leader."""
        leader = self.leader_of(queue)
        heir = next(node for node in self.nodes if node is not leader)
        self.evaluate(leader, f'{with_queue(queue)}, rabbit_quorum_queue:transfer_leadership(Q, \'{heir.name}\').')

    def leader_of(self, queue):
        """The node that leads a quorum queue, asked of any that answers."""
        lookup = f'{with_queue(queue)}, element(2, amqqueue:get_pid(Q)).'
        for asked in self.at_work():
            name = self.evaluate(asked, lookup).strip("'")
            found = [node for node in self.nodes if node.name == name]
            if found:
                return found[0]
        raise RuntimeError(f"no node knows who leads {queue}")

    def depths(self):
        """Ready and unacknowledged messages of every queue. Only the leader of a queue knows its numbers."""
        numbers = (
            'lists:flatten([io_lib:format("~s ~b ~b~n", [element(4, Name), Ready, Unacknowledged])'
            ' || Q <- rabbit_amqqueue:list(<<"/">>), element(2, amqqueue:get_pid(Q)) =:= node(),'
            " [{_, Name}, {_, Ready}, {_, Unacknowledged}]"
            " <- [rabbit_amqqueue:info(Q, [name, messages_ready, messages_unacknowledged])]])."
        )
        listed = "".join(self.evaluate(node, numbers) for node in self.nodes)
        found = re.findall(r'([^\s"]+) (\d+) (\d+)\\n', listed)
        return {name: (int(ready), int(unacknowledged)) for name, ready, unacknowledged in found}

    def isolate(self, node):
        """Cuts a node off from the others: with a wrong cookie, no link between them can be made again."""
        others = "[N || N <- nodes(), lists:prefix(\"n\", atom_to_list(N))]"
        self.evaluate(node, f"[begin erlang:set_cookie(N, wrong), erlang:disconnect_node(N) end || N <- {others}].")

    def reunite(self, node):
        names = ", ".join(other.name for other in self.nodes if other is not node)
        self.evaluate(node, f"[erlang:set_cookie(N, erlang:get_cookie()) || N <- [{names}]].")

    def stop(self):
        for node in self.nodes:
            node.kill()
        for mapper in self.mappers:
            mapper.kill()
        self.address.close()


def write(path, text, mode):
    path.write_text(text)
    path.chmod(mode)
    give(path, "rabbitmq")


def with_queue(queue):
    """The beginning of an expression that has a queue as `Q`."""
    return f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{queue}">>))'


def serves(node):
    try:
        connect(pika.ConnectionParameters(node.host.address, node.port, socket_timeout=2, blocked_connection_timeout=2)).close()
    except (pika.exceptions.AMQPError, OSError):
        return False
    return True
