"""Stands between two ends of a TCP connection and writes down every byte that goes through.

usage: recorder.py UPSTREAM_PORT FILE      prints the port it listens on, on 127.0.0.1
"""

import asyncio
import sys


async def pass_on(reader, writer, log):
    while data := await reader.read(65536):
        log.write(data)
        writer.write(data)
        await writer.drain()
    writer.close()


async def serve(upstream, log):
    async def connection(reader, writer):
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", upstream)
            await asyncio.gather(pass_on(reader, up_writer, log), pass_on(up_reader, writer, log))
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


with open(sys.argv[2], "wb", buffering=0) as file:
    asyncio.run(serve(int(sys.argv[1]), file))
