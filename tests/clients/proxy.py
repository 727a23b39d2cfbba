"""A link between two programs that can break: an address of its own in front of a server."""

import asyncio
import collections
import contextlib
import threading

CHUNK = 65_536
CONNECT_SECONDS_MAX = 2
DELAY_SECONDS = 0.15
SLOW_BYTES_PER_SECOND = 64_000

# What may be wrong with a link.
DELAY = "delay"  # each chunk arrives later
SLOW = "slow"  # few bytes a second
CUT = "cut"  # connections are reset, new ones too
STALL = "stall"  # nothing moves, and all of it arrives in the end
HALF_OPEN = "half-open"  # the server's end is gone, and the client is not told
BLACK_HOLE = "black hole"  # what the server answers is lost
MODES = (DELAY, SLOW, CUT, STALL, HALF_OPEN, BLACK_HOLE)
PASS = "pass"


class Loop:
    """One thread for all proxies of a process."""

    shared = None

    @classmethod
    def get(cls):
        if cls.shared is None:
            cls.shared = asyncio.new_event_loop()
            threading.Thread(target=cls.shared.run_forever, daemon=True).start()
        return cls.shared


class Proxy:
    """Forwards connections to the first of `targets()` that accepts one: ports on this machine, or hosts and ports. `hits` counts what
    each mode did."""

    def __init__(self, name, targets, address="127.0.0.1"):
        self.name = name
        self.targets = targets
        self.address = address
        self.mode = PASS
        self.hits = collections.Counter()
        self.connections = set()
        self.loop = Loop.get()
        self.server = self.run(self.listen())
        self.port = self.server.sockets[0].getsockname()[1]

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    async def listen(self):
        self.changed = asyncio.Condition()
        return await asyncio.start_server(self.serve, self.address, 0)

    def set(self, mode):
        self.run(self.change(mode))

    def drop(self):
        """Resets all connections once."""
        self.run(self.abort_all())

    def close(self):
        self.set(CUT)
        self.loop.call_soon_threadsafe(self.server.close)

    @property
    def open(self):
        return len(self.connections)

    # --- in the loop ---

    async def change(self, mode):
        async with self.changed:
            self.mode = mode
            for connection in list(self.connections):
                if mode == CUT:
                    self.hits[CUT] += 1
                    connection.abort()
                elif mode == HALF_OPEN and connection.far:
                    self.hits[HALF_OPEN] += 1
                    connection.lose_far()
                elif mode == PASS and connection.lost:
                    connection.abort()
            self.changed.notify_all()

    async def abort_all(self):
        for connection in list(self.connections):
            connection.abort()

    async def while_stalled(self):
        async with self.changed:
            if self.mode == STALL:
                self.hits[STALL] += 1
                await self.changed.wait_for(lambda: self.mode != STALL)

    async def serve(self, reader, writer):
        connection = Connection(writer)
        self.connections.add(connection)
        try:
            await self.while_stalled()
            if self.mode == CUT:
                self.hits[CUT] += 1
            elif self.mode == HALF_OPEN:
                connection.lose_far()
                await self.carry(reader, connection, outward=True)
            elif far := await self.connect():
                answers, connection.far = far
                await asyncio.gather(self.carry(reader, connection, outward=True), self.carry(answers, connection, outward=False))
        finally:
            connection.abort()
            self.connections.discard(connection)

    async def connect(self):
        for target in self.targets():
            host, port = target if isinstance(target, tuple) else ("127.0.0.1", target)
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                return await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_SECONDS_MAX)
        return None

    async def carry(self, reader, connection, outward):
        """Carries one direction to its end; either end may break at any time."""
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await self.while_stalled()
                if self.mode == HALF_OPEN or (self.mode == BLACK_HOLE and not outward):
                    self.hits[self.mode] += 1
                    connection.lost = True
                if self.mode in (DELAY, SLOW):
                    self.hits[self.mode] += 1
                    await asyncio.sleep(DELAY_SECONDS if self.mode == DELAY else len(data) / SLOW_BYTES_PER_SECOND)
                await connection.send(data, outward)
            await self.while_stalled()
            connection.end(outward)


class Connection:
    """A connection of a client, and the one to the server behind it."""

    def __init__(self, near):
        self.near = near
        self.far = None
        self.lost = False  # bytes are missing, so it is of no use once the link is whole again

    async def send(self, data, outward):
        end = self.far if outward else self.near
        if end and (outward or not self.lost):
            end.write(data)
            await end.drain()

    def end(self, outward):
        end = self.far if outward else self.near
        if end and not self.lost:
            end.write_eof()

    def lose_far(self):
        self.lost = True
        if self.far:
            self.far.transport.abort()
            self.far = None

    def abort(self):
        for end in (self.near, self.far):
            if end:
                end.transport.abort()
