"""The monitoring service's HTTP source, and the package repository of its agent's maker, as the twin's hosts see them.

Takes a folder with server.crt and server.key, the addresses to listen on, and maybe a folder of packages with the path under which
it is asked for. What agents post is kept in received.jsonl, a line each; the path is not, as it is a secret. While the folder has a file
`answer`, that says what is answered: a status; `hang`: never anything; `away`: connections are broken; `stranger`: the certificate is
one of stranger.crt and stranger.key, which nobody trusts.
"""
import gzip
import http.server
import json
import pathlib
import socket
import ssl
import struct
import sys
import threading
import time

folder = pathlib.Path(sys.argv[1])
addresses = sys.argv[2].split(",")
packages = pathlib.Path(sys.argv[3]).resolve() if len(sys.argv) > 4 else None
prefix = sys.argv[4].strip("/") if len(sys.argv) > 4 else ""
write = threading.Lock()


def answer():
    """What is answered for now."""
    try:
        return (folder / "answer").read_text().strip()
    except FileNotFoundError:
        return "200"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *_):
        pass

    def body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        whole = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def say(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        body = self.body()
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        said = answer()
        if not said.isdigit():
            while said == "hang" and answer() == said:
                time.sleep(0.2)
            # It was not taken, and nobody is told that it was.
            self.close_connection = True
            return
        status = int(said)
        line = {
            "at": time.time(),
            "status": status,
            "host": self.headers.get("X-Sumo-Host", ""),
            "category": self.headers.get("X-Sumo-Category", ""),
            "fields": self.headers.get("X-Sumo-Fields", ""),
            "type": self.headers.get("Content-Type", ""),
            "body": body.decode("utf-8", "replace"),
        }
        with write, open(folder / "received.jsonl", "a", encoding="utf-8") as kept:
            kept.write(json.dumps(line) + "\n")
        self.say(status)

    def do_GET(self):
        path = self.path.split("?")[0].strip("/")
        inside = path == prefix or path.startswith(prefix + "/") or not prefix
        if packages is None or not inside:
            return self.say(404)
        wanted = (packages / path[len(prefix):].strip("/")).resolve()
        if not wanted.is_relative_to(packages) or not wanted.is_file():
            return self.say(404)
        self.say(200, wanted.read_bytes())

    do_HEAD = do_GET


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def get_request(self):
        """The handshake is the business of the connection's own thread: a client that is slow at it holds up nobody."""
        plain, peer = super().get_request()
        if answer() == "away":
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            plain.close()
            raise ConnectionResetError
        plain.settimeout(60)
        context = stranger if answer() == "stranger" else known
        return context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False), peer

    def handle_error(self, *_):
        pass


class SixServer(Server):
    address_family = socket.AF_INET6


def identity(name):
    """The side of TLS that shows the certificate of that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return context


known, stranger = identity("server"), identity("stranger")
servers = [(SixServer if ":" in address else Server)((address, 443), Handler) for address in addresses]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
