#!/usr/bin/python3
"""A client in another language, written from proto/PROTOCOL.md and proto/tidemill.proto alone.

It shows that the two are enough: it shares no line with the library in client/lib. Numbers in
brackets are sections of PROTOCOL.md. tidemill_pb2 is made by protoc from tidemill.proto and
found by PYTHONPATH.
"""

import argparse
import getpass
import json
import os
import struct
import sys
import time

import msgpack
import xxhash
import zmq

import tidemill_pb2 as pb

CONNECT_S, GIVE_UP_S = 2, 30  # [2] without a Welcome: try anew, and in the end give up
CREDIT_BYTES = 64 * 1024  # results taken and not yet counted back; small, so that it runs out
TAKEN_EVERY_BYTES = 64 * 1024  # [1]
OK, CANCELLED_TASK = 0, 5  # [5.4]
SOURCE_BYTES, SOURCE_PATH, SHA256 = 0, 1, 4  # [9.1]
CANNOT_BE_PLACED, JOB_CANCELLED = 10, 8  # [7]


class Lost(Exception):
    """The connection is of no use any more; all that is open is said again on another one."""


class Refused(Exception):
    """The coordinator answered Error, or is not the one it was."""


class Identity:
    """What stays the same over all connections of this process [3.1]."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.nonce = os.urandom(16)
        self.name = getpass.getuser().encode()
        self.epoch = (0, bytes(16))

    def accept(self, welcome):
        if welcome.version != 1:
            raise Refused(f"version {welcome.version} was not offered")
        counter, nonce = self.epoch
        if welcome.epoch_counter < counter:
            raise Refused("an old copy of the coordinator's state")
        if welcome.epoch_counter == counter and welcome.epoch_nonce != nonce:
            raise Refused("another copy of the coordinator's state")
        self.epoch = (welcome.epoch_counter, welcome.epoch_nonce)


class Session:
    """One connection, from Hello to its end [1, 2]."""

    def __init__(self, context, identity):
        self.socket = context.socket(zmq.DEALER)
        for option, value in (
            (zmq.IMMEDIATE, 1),
            (zmq.LINGER, 0),
            (zmq.MAXMSGSIZE, 64 * 1024),
            (zmq.HEARTBEAT_IVL, 2_000),
            (zmq.HEARTBEAT_TIMEOUT, 10_000),
            (zmq.HEARTBEAT_TTL, 20_000),
            (zmq.SNDTIMEO, CONNECT_S * 1000),
        ):
            self.socket.setsockopt(option, value)
        self.socket.connect(identity.endpoint)
        self.beat_s, self.silence_s = CONNECT_S, CONNECT_S
        self.heard = self.beaten = time.monotonic()
        self.welcome = None
        self.frame_max = 64 * 1024
        self.taken = self.told = 0  # bytes of bodies
        self._begin(identity)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _begin(self, identity):
        try:
            counter, nonce = identity.epoch
            self.send("hello", role=pb.CLIENT, version_min=1, version_max=1, epoch_counter=counter,
                      epoch_nonce=nonce, name=identity.name, nonce=identity.nonce, pid=os.getpid())
            kind, message, _ = self.receive()
            if kind == pb.ERROR:
                raise error_of(message)
            if kind != pb.WELCOME:
                raise Refused("something else than Welcome")
            identity.accept(message)
        except BaseException:
            self.socket.close()
            raise
        self.welcome = message
        self.beat_s, self.silence_s = message.beat_ms / 1000, message.silence_ms / 1000
        self.frame_max = message.frame_max

    def send(self, field, body=b"", **values):
        envelope = pb.Envelope(version=1, type=pb.Type.Value(field.upper()), **{field: values})
        getattr(envelope, field).SetInParent()  # present also when all its fields are 0
        cuts = range(0, len(body), self.frame_max)
        frames = [body[at : at + self.frame_max] for at in cuts]
        try:
            self.socket.send_multipart([envelope.SerializeToString(), *frames])
        except zmq.Again:
            raise Lost("nobody takes messages") from None

    def receive(self):
        """The next message that means something here: its type, payload and body."""
        while True:
            self._beat_if_due()
            wait_s = min(self.beaten + self.beat_s, self.heard + self.silence_s) - time.monotonic()
            if not self.socket.poll(max(0, wait_s) * 1000):
                if time.monotonic() >= self.heard + self.silence_s:
                    raise Lost("silence")
                continue
            first, *frames = self.socket.recv_multipart()
            self.heard = time.monotonic()
            envelope = pb.Envelope.FromString(first)
            field = envelope.WhichOneof("payload")
            if envelope.version != 1 or not field or envelope.type != pb.Type.Value(field.upper()):
                raise Refused("a message that is none")
            self._tell_taken(sum(map(len, frames)))
            if envelope.type not in (pb.BEAT, pb.TAKEN):
                return envelope.type, getattr(envelope, field), b"".join(frames)

    def _tell_taken(self, more):
        self.taken += more
        if self.taken - self.told >= TAKEN_EVERY_BYTES:
            self.told = self.taken
            self.send("taken", bytes=self.taken)

    def _beat_if_due(self):
        if self.welcome and time.monotonic() >= self.beaten + self.beat_s:
            self.beaten = time.monotonic()
            self.send("beat", session=self.welcome.session)


def error_of(error):
    """The exception that an Error is [7]."""
    text = error.text.decode(errors="replace")
    if text == "no session":
        return Lost(text)
    return Refused(f"{text} (code {error.code}, about {pb.Type.Name(error.about)})")


def keep_talking(identity, talk):
    """Runs talk(session) until it returns, on as many connections as it takes."""
    context = zmq.Context.instance()
    deadline = time.monotonic() + GIVE_UP_S
    while True:
        try:
            with Session(context, identity) as session:
                deadline = time.monotonic() + GIVE_UP_S
                return talk(session)
        except Lost as lost:
            if time.monotonic() > deadline:
                raise Refused(f"unreachable: {lost}") from lost


class Chunk:
    """Inputs that travel together [4.3]."""

    def __init__(self, inputs, node=b""):
        self.node = node  # the only one that its tasks may run on
        self.lens = [len(data) for data in inputs]
        self.body = b"".join(inputs)
        self.weight = len(self.body) + 4 * len(inputs)
        lens = struct.pack(f"<{len(self.lens)}I", *self.lens)
        self.digest = xxhash.xxh3_128_digest(lens + self.body + node)


def cut(inputs, welcome, node=b""):
    """The same inputs always make the same chunks: a job may be continued by another process."""
    chunks, part, size = [], [], 0
    for data in inputs:
        if len(data) > welcome.input_max:
            raise Refused(f"an input of {len(data)} bytes")
        if len(part) == welcome.chunk_tasks_max or size + len(data) > welcome.chunk_bytes_max:
            chunks.append(Chunk(part, node))
            part, size = [], 0
        part.append(data)
        size += len(data)
    return chunks + [Chunk(part, node)] if part else chunks


def split(body, lens):
    if sum(lens) != len(body):
        raise Refused("lengths that do not add up to the body")
    at = 0
    for length in lens:
        yield body[at : at + length]
        at += length


class HashJob:
    """A job of one connection or many: SHA-256 of each of the named files."""

    def __init__(self, names, options):
        self.names, self.options = names, options
        self.key = bytes.fromhex(options.key) if options.key else os.urandom(16)
        source = SOURCE_BYTES if options.inline else SOURCE_PATH
        self.spec = msgpack.packb({"c": b"hash", "i": source, "a": SHA256})
        self.chunks = None
        self.job = None  # the last Accepted
        self.cursor = 0
        self.connections = 0
        self.drops_due = {"feeding", "following"} if options.drop else set()
        self.cancel_due = options.cancel
        self.feeding = True
        self.end = None  # the last Results

    def _input(self, name):
        if self.options.inline:
            with open(name, "rb") as file:
                return msgpack.packb({"b": file.read(), "n": name})
        return msgpack.packb({"p": os.path.abspath(name), "n": name})

    def talk(self, session):
        self.connections += 1
        if self.chunks is None:
            self.chunks = cut(map(self._input, self.names), session.welcome,
                              self.options.node.encode())
        self.sent = self.window = None  # of this session; set by its first Accepted
        self.seal_sent = False
        if self.job and self.job.sealed:
            self._follow(session)
        else:
            session.send("submit", key=self.key, spec=self.spec, name=b"protocol", retries=3)
        while not self.end and not self._left():
            kind, message, body = session.receive()
            if kind == pb.ACCEPTED:
                self._accepted(session, message)
            elif kind == pb.RESULTS:
                self._results(session, message, body)
            elif kind == pb.ERROR:
                self._error(message)

    def _left(self):
        return self.options.leave and self.job and self.job.chunks > 0

    def _accepted(self, session, accepted):
        known, self.job = self.job, accepted
        if accepted.key != self.key:
            raise Refused("an answer about another job")
        if known and (accepted.job != known.job or accepted.chunks < known.chunks):
            raise Refused("the coordinator's state was lost")
        if self.sent is None:
            self.sent = accepted.chunks
            self._follow(session)
        self.window = accepted.credit_bytes
        if self.feeding and not accepted.sealed:
            self._feed(session)
        if self.cancel_due and accepted.chunks == len(self.chunks):
            self.cancel_due = False
            session.send("cancel", job=accepted.job)

    def _feed(self, session):
        """Chunks as the window allows [4.4], then Seal."""
        self.sent = max(self.sent, self.job.chunks)
        waiting = sum(chunk.weight for chunk in self.chunks[self.job.chunks : self.sent])
        while self.sent < len(self.chunks):
            chunk = self.chunks[self.sent]
            if waiting and waiting + chunk.weight > self.window:
                return
            session.send("chunk", chunk.body, job=self.job.job, seq=self.sent, lens=chunk.lens,
                         digest=chunk.digest, node=chunk.node)
            waiting += chunk.weight
            self.sent += 1
            self._drop("feeding")
            if self.options.leave:
                return
        if not self.seal_sent and not self.options.cancel:
            self.seal_sent = True
            session.send("seal", job=self.job.job, chunks=len(self.chunks), tasks=len(self.names))

    def _follow(self, session):
        session.send("follow", job=self.job.job, cursor=self.cursor, credit_bytes=CREDIT_BYTES,
                     task_order=self.options.task_order)

    def _results(self, session, results, body):
        if results.cursor < self.cursor:
            return  # of a Follow before this one
        if results.cursor > self.cursor:
            raise Refused("a gap in the results")
        values = split(body, results.lens)
        for task, status, value in zip(results.tasks, results.statuses, values, strict=True):
            self._print(self.names[task], status, value)
        self.cursor = results.next_cursor
        if results.end:
            self.end = results
            return
        session.send("credit", job=results.job, bytes=len(body) + 16 * len(results.tasks))
        self._drop("following")

    def _print(self, name, status, value):
        value = msgpack.unpackb(value, unicode_errors="surrogateescape") if value else {}
        if status == OK:
            print_digest(value["d"]["sha256"], name)
        elif status != CANCELLED_TASK:
            print(os.fsdecode(name), ": ", os.fsdecode(value.get("e", b"")), sep="", file=sys.stderr)

    def _error(self, error):
        if error.about == pb.CHUNK and error.code == JOB_CANCELLED:
            self.feeding = False  # its results still come to an end
        elif not (error.about == pb.FOLLOW and error.code == CANNOT_BE_PLACED):
            raise error_of(error)

    def _drop(self, where):
        """What a bad network does, once in each of the two places."""
        if where in self.drops_due:
            self.drops_due.remove(where)
            raise Lost(where)


def print_digest(digest, name):
    """A line as sha256sum writes it."""
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != name else b""
    sys.stdout.buffer.write(mark + digest.hex().encode() + b"  " + escaped + b"\n")


def hash_files(identity, options):
    names = [name for name in sys.stdin.buffer.read().split(b"\0") if name]
    job = HashJob(names, options)
    keep_talking(identity, job.talk)
    said = {"job": job.job.job, "chunks": job.job.chunks, "connections": job.connections}
    if job.end:
        end = job.end
        said |= {"state": pb.JobState.Name(end.state), "tasks": end.count_tasks, "ok": end.count_ok,
                 "failed": end.count_failed, "cancelled": end.count_cancelled}
    print(*(f"{key}={value}" for key, value in said.items()), file=sys.stderr)


def query(identity, options):
    """Prints each row of the answer as an object of JSON [6]."""

    def talk(session):
        session.send("query", id=1, what=options.what.encode(), job=options.job)
        rows, last = [], False
        while not last:
            kind, answer, body = session.receive()
            if kind == pb.ERROR:
                raise error_of(answer)
            unpacker = msgpack.Unpacker(unicode_errors="surrogateescape")
            unpacker.feed(body)
            part = list(unpacker)
            if len(part) != answer.n:
                raise Refused("rows that do not add up to the answer")
            rows += part
            last = answer.last
        return rows

    for row in keep_talking(identity, talk):
        print(json.dumps(row))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("endpoint")
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("hash", help="the files whose names come NUL-ended on stdin")
    command.set_defaults(run=hash_files)
    command.add_argument("--key", help="of the job, 32 hexadecimal digits; else a random one")
    command.add_argument("--inline", action="store_true", help="send the bytes, not the paths")
    command.add_argument("--task-order", action="store_true", help="print in the order of stdin")
    command.add_argument("--drop", action="store_true", help="lose the connection twice")
    command.add_argument("--leave", action="store_true", help="go when a chunk is accepted")
    command.add_argument("--cancel", action="store_true", help="cancel in place of the seal")
    command.add_argument("--node", default="", help="the only one that they may run on")
    command = commands.add_parser("query")
    command.set_defaults(run=query)
    command.add_argument("what")
    command.add_argument("job", type=int, nargs="?", default=0)
    options = parser.parse_args()
    try:
        options.run(Identity(options.endpoint), options)
    except Refused as refused:
        sys.exit(f"{parser.prog}: {refused}")


if __name__ == "__main__":
    main()
