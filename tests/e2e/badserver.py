#!/usr/bin/env python3
"""An HTTP server that misbehaves on request, on a loopback port of its choice.

usage: badserver.py LOG. Prints its port on standard output; a line a request in LOG:
"METHOD PATH TIME IN_FLIGHT"."""
import gzip
import http.server
import socketserver
import sys
import threading
import time

log = open(sys.argv[1], "a", buffering=1)
lock = threading.Lock()
in_flight = 0
asked = {}
DONE = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def body(self, data, **headers):
        self.send_response(200)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        global in_flight
        with lock:
            in_flight += 1
            asked[self.path] = n = asked.get(self.path, 0) + 1
            print("GET", self.path, time.monotonic(), in_flight, file=log)
        try:
            self.answer(self.path.strip("/").split("/")[0], n)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        with lock:
            in_flight -= 1

    def answer(self, what, n):
        if what == "hang":  # accepts, says nothing
            DONE.wait()
        elif what == "stall":  # begins, then nothing
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"begun")
            self.wfile.flush()
            DONE.wait()
        elif what == "trickle":  # never stalls, never ends
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            while not DONE.wait(0.05):
                self.wfile.write(b".")
                self.wfile.flush()
        elif what == "cut":  # shorter than it says
            self.body(b"short", Content_Length="1000")
            self.close_connection = True
        elif what == "badgzip":
            self.body(b"this is no gzip at all", Content_Encoding="gzip")
        elif what == "cutgzip":
            whole = gzip.compress(bytes(range(256)) * 4000)
            self.body(whole[: len(whole) // 2], Content_Encoding="gzip")
        elif what == "bomb":  # 10 MB in 10 KB
            self.body(gzip.compress(bytes(10_000_000)), Content_Encoding="gzip")
        elif what == "twice":  # well the second time
            if n == 1:
                self.send_response(503)
                self.send_header("Retry-After", "1")
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.body(b"at last")
        elif what == "slow":  # long enough that others are in flight too
            time.sleep(0.2)
            self.body(b"slow")
        elif what == "nothttp":
            self.wfile.write(b"SSH-2.0-OpenSSH_9\r\n")
            self.close_connection = True
        elif what == "redirect":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif what == "binary":
            self.body(bytes(range(256)))
        else:
            self.body(self.path.encode())


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 256


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
