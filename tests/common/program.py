"""A user's program for the tests of the edge: says what it was told, and answers as real applications do.

usage: program.py PORT [ADDRESS], with its name in the environment's WHO
  …/who                   its port and name, and the path as it came
  /told                   the request's first line and head, as they came
  /cookies?BYTES          an answer whose `Set-Cookie` lines take so many bytes
  /says?NAME=VALUE&…      an answer with these header lines
  /type?MEDIA-TYPE        an answer of this type
  /events, /chunks        one event or chunk, and another one once there is a file /run/go; the events with `X-Accel-Buffering: no`
  /answers?STATUS         this status, with words of its own as JSON
  /slow?SECONDS           an answer after so long
  /host                   what a file /run/who holds
  /healthz                200, but 503 where there is a file /run/unwell, and 404 for another host than /run/host names
  /busy                   503 of its own
  /close                  takes the request, and ends the connection without an answer
  /text?BYTES             a text of so many bytes; `/packed` the same, compressed by the program
  /sink                   takes a body, says how many bytes it had
  …/ws                    speaks the websocket protocol's handshake, then says back what it gets
"""

import base64
import gzip
import hashlib
import http.server
import os
import socket
import sys
import time
import urllib.parse


def read(path):
    with open(path, "rb") as file:
        return file.read().strip()


def who():
    return read("/run/who") + b"\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body, head=(), media="text/plain", status=200):
        self.send_response(status)
        for name, value in (("Content-Type", media), ("Content-Length", str(len(body))), *head):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def flow(self, head, parts):
        self.send_response(200)
        for name, value in (("Transfer-Encoding", "chunked"), *head):
            self.send_header(name, value)
        self.end_headers()
        for part in parts:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
            until = time.monotonic() + 60
            while not os.path.exists("/run/go") and time.monotonic() < until:
                time.sleep(0.02)
        self.wfile.write(b"0\r\n\r\n")

    def websocket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        for name, value in (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Accept", accept)):
            self.send_header(name, value)
        self.end_headers()
        while data := self.rfile.read1(65536):
            self.wfile.write(data)
        self.close_connection = True

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path.endswith("/who"):
            self.answer(f"{sys.argv[1]} {os.environ.get('WHO')} {self.path}\n".encode())
        elif path == "/told":
            self.answer((self.requestline + "\n" + str(self.headers)).encode())
        elif path == "/cookies":
            line = "x" * 1000
            lines = [("Set-Cookie", f"c{n}={line}") for n in range(int(query) // 1000)]
            self.answer(b"cookies\n", lines)
        elif path == "/says":
            self.answer(b"said\n", urllib.parse.parse_qsl(query))
        elif path == "/type":
            self.answer(b"typed\n", media=query)
        elif path == "/events":
            head = [("Content-Type", "text/event-stream"), ("X-Accel-Buffering", "no")]
            self.flow(head, [b"data: %d\n\n" % n for n in range(2)])
        elif path == "/chunks":
            self.flow([("Content-Type", "text/html")], [b"part %d\n" % n for n in range(2)])
        elif path == "/answers":
            self.answer(b'{"program": "words of its own"}\n', media="application/json", status=int(query))
        elif path == "/slow":
            time.sleep(float(query))
            self.answer(b"at last\n")
        elif path == "/host":
            self.answer(who())
        elif path == "/healthz" and os.path.exists("/run/unwell"):
            self.send_error(503)
        elif path == "/healthz" and os.path.exists("/run/host") and read("/run/host") != self.headers["Host"].encode():
            self.send_error(404)
        elif path == "/busy":
            self.send_error(503, "of its own")
        elif path.endswith(("/text", "/packed")):
            body = b"a text " * (int(query) // 7)
            if path.endswith("/text"):
                self.answer(body, media="application/json")
            else:
                self.answer(gzip.compress(body), [("Content-Encoding", "gzip")], "application/json")
        elif path == "/close":
            self.close_connection = True
        elif path.endswith("/ws") and self.headers.get("Upgrade"):
            self.websocket()
        else:
            self.answer(b"well\n")

    def do_POST(self):
        total = 0
        if self.headers.get("Transfer-Encoding"):
            while size := int(self.rfile.readline(), 16):
                total += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
        else:
            left = total = int(self.headers.get("Content-Length", 0))
            while left:
                left -= len(self.rfile.read(min(left, 65536)))
        if self.path == "/close":
            self.close_connection = True
            return
        said = b"%d bytes\n" % total
        self.answer(who() + said if self.path == "/host" else said)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024
    address_family = socket.AF_INET6 if ":" in "".join(sys.argv[2:]) else socket.AF_INET


if __name__ == "__main__":
    Server((sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
