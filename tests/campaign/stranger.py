"""Someone who connects and is no peer: random bytes, half a handshake, messages of nothing."""

import random
import socket
import struct
import sys

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(48)


def short(flags, data):
    return bytes([flags, len(data)]) + data


def ready():
    name, kind = b"\x05READY", b"\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER"
    return short(4, name + kind)


def main():
    port, seed = int(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(seed)
    try:
        with socket.create_connection(("127.0.0.1", port), 2) as s:
            way = seed % 5
            if way == 0:
                s.sendall(rng.randbytes(4000))
            elif way == 1:
                s.sendall(GREETING[: rng.randrange(64)])
            elif way == 2:
                s.sendall(GREETING + short(4, rng.randbytes(60)))
            elif way == 3:
                s.sendall(GREETING + ready() + bytes([2]) + struct.pack(">Q", 1 << 40) + rng.randbytes(500))
            else:
                s.sendall(GREETING + ready())
                for _ in range(20):
                    s.sendall(short(rng.choice([0, 0, 1, 4]), rng.randbytes(rng.randrange(250))))
            s.settimeout(0.2)
            s.recv(4096)
    except OSError:
        pass  # a connection that is refused or ended is an answer too


if __name__ == "__main__":
    main()
