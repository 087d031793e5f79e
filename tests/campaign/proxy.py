"""A bad network between ZeroMQ peers on loopback.

Each --listen SIDE=PORT takes connections and passes them on to one upstream port. It reads
just enough of ZMTP (greeting, frames) to know where messages end, so that a fault can hit a
message in its middle, between two, or as a whole. Commands are lines of JSON on standard
input, `{"fault": ..., "side": ..., "dir": "up"|"down", "ms": ...}`:

  cut      one connection ends at once (RST)         cutall   all of the side
  stall    dir (or both) moves no byte for ms        delay    each message of dir waits ms
  drop     the connection ends in the middle of the next message
  frame    a frame longer than anybody takes, then random bytes: ZMTP is broken
  garbage  a message of random bytes between two others
  dup      the next message comes twice              reorder  the next two change places

Each fault is told on standard output when it has taken place: the command, with "hit" =
how many connections. Random choices come from --seed.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import struct
import sys

GREETING = 64
MORE, LONG, COMMAND = 1, 2, 4


def say(**what):
    print(json.dumps(what), flush=True)


class Framer:
    """Bytes in; whole units out: a command, or all frames of a message. The greeting goes
    through as it comes, since each side waits for parts of the other's."""

    def __init__(self):
        self.buf = bytearray()
        self.greeting = GREETING

    def feed(self, data):
        self.buf += data
        while unit := self._next():
            yield unit

    def _next(self):
        if self.greeting:
            part = self._take(min(self.greeting, len(self.buf)))
            self.greeting -= len(part)
            return (part, False) if part else None
        at = 0
        while True:
            if len(self.buf) < at + 2:
                return None
            flags = self.buf[at]
            if flags & LONG:
                if len(self.buf) < at + 9:
                    return None
                (size,) = struct.unpack_from(">Q", self.buf, at + 1)
                at += 9 + size
            else:
                at += 2 + self.buf[at + 1]
            if len(self.buf) < at:
                return None
            if flags & COMMAND:
                return self._take(at), False
            if not flags & MORE:
                return self._take(at), True

    def _take(self, size):
        unit = bytes(self.buf[:size])
        del self.buf[:size]
        return unit


class Flow:
    """One direction of a connection."""

    def __init__(self, conn, name, reader, writer):
        self.conn, self.name, self.reader, self.writer = conn, name, reader, writer
        self.open = asyncio.Event()
        self.open.set()
        self.delay_s = 0
        self.pending = None  # a command for the next message
        self.held = None  # of a reorder

    async def run(self):
        framer = Framer()
        while data := await self.reader.read(256 * 1024):
            for unit, is_message in framer.feed(data):
                await self.open.wait()
                if is_message and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if is_message and (self.pending or self.held):
                    unit = self._mangle(unit)
                    if unit is None:
                        return
                self.writer.write(unit)
                await self.writer.drain()

    def _mangle(self, unit):
        """What goes out in place of the message; None: the connection is gone."""
        if self.held:
            unit, self.held = unit + self.held, None
            return unit
        command, self.pending = self.pending, None
        fault, rng = command["fault"], self.conn.proxy.rng
        if fault == "reorder":
            self.held, unit = unit, b""
        elif fault == "dup":
            unit += unit
        elif fault == "garbage":
            junk = rng.randbytes(rng.randint(1, 250))
            unit += bytes([0, len(junk)]) + junk
        elif fault == "frame":
            unit += bytes([LONG]) + struct.pack(">Q", rng.randint(1 << 30, 1 << 62)) + rng.randbytes(64)
        elif fault == "drop":
            self.writer.write(unit[: rng.randrange(len(unit))])
        say(**command, hit=1)
        if fault != "drop":
            return unit
        self.conn.proxy.loop.call_later(0.01, self.conn.cut)
        return None

    def stall(self, seconds):
        self.open.clear()
        self.conn.proxy.loop.call_later(seconds, self.open.set)

    def slow(self, delay_s, seconds):
        self.delay_s = delay_s

        def end():
            self.delay_s = 0

        self.conn.proxy.loop.call_later(seconds, end)


class Connection:
    def __init__(self, proxy, side, near, far):
        self.proxy, self.side = proxy, side
        self.writers = (near[1], far[1])
        self.flows = {
            "up": Flow(self, "up", near[0], far[1]),
            "down": Flow(self, "down", far[0], near[1]),
        }

    async def run(self):
        self.proxy.connections.append(self)
        tasks = [asyncio.ensure_future(flow.run()) for flow in self.flows.values()]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.proxy.connections.remove(self)
        for writer in self.writers:
            writer.close()

    def cut(self):
        for writer in self.writers:
            sock = writer.get_extra_info("socket")
            if sock and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    def __init__(self, upstream, seed):
        self.upstream = upstream
        self.rng = random.Random(seed)
        self.connections = []
        self.loop = asyncio.get_running_loop()

    async def accept(self, side, reader, writer):
        try:
            far = await asyncio.open_connection("127.0.0.1", self.upstream)
        except OSError:
            writer.transport.abort()  # as if nobody listened
            return
        await Connection(self, side, (reader, writer), far).run()

    def obey(self, command):
        fault, side = command["fault"], command.get("side")
        there = [c for c in self.connections if c.side == side]
        if not there:
            say(**command, hit=0)
            return
        one = self.rng.choice(there)
        ways = [command["dir"]] if command.get("dir") in ("up", "down") else ["up", "down"]
        flows = [one.flows[way] for way in ways]
        seconds = command.get("ms", 1000) / 1000
        if fault == "cut":
            one.cut()
        elif fault == "cutall":
            for conn in there:
                conn.cut()
        elif fault == "stall":
            for flow in flows:
                flow.stall(seconds)
        elif fault == "delay":
            for flow in flows:
                flow.slow(0.02, seconds)
        else:
            self.rng.choice(flows).pending = command
            return  # told when it has taken place
        say(**command, hit=len(there) if fault == "cutall" else 1)


async def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", action="append", required=True, metavar="SIDE=PORT")
    parser.add_argument("--upstream", type=int, required=True, metavar="PORT")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    proxy = Proxy(options.upstream, options.seed)
    for listen in options.listen:
        side, port = listen.split("=")

        async def accept(reader, writer, side=side):
            await proxy.accept(side, reader, writer)

        await asyncio.start_server(accept, "127.0.0.1", int(port), limit=1 << 20)
    say(ready=True)
    commands = asyncio.StreamReader()
    await proxy.loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        proxy.obey(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
