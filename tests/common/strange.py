"""A public certificate authority on a bad day: an HTTPS proxy in front of the lab's Pebble that reads what it has to do wrong
from a small JSON file before every request. Everything else is Pebble's own answer; all its URLs lead through here.

usage: strange.py FOLDER ADDRESS PORT UPSTREAM-ADDRESS UPSTREAM-PORT
FOLDER holds server.crt, server.key (as the CA's), foreign.crt, foreign.key (of nobody whom clients know), control.json; and
gets log.jsonl, a line for each request.

control.json, every key optional:
  answer   {on, status, headers, problem, detail | html}   answers kind `on` (or `*`) itself
  hang     KIND     takes the request and gives no answer until this is gone, then closes
  hold     KIND     lets the request wait until this is gone, then goes on
  foreign  true     shows foreign.crt
  clock    SECONDS  is ahead by that in `Date`
  nonces   PERCENT  refuses so many nonces
  chain    {how: alone | windows | signed, issuer, names, age, other_key}   what is given as the certificate
  replaced true     has replaced every certificate already, says an order that names one
  advice   {start, end, status, headers, url}   the answer of a renewalInfo resource, in seconds from now
"""

import base64
import http.client
import http.server
import json
import os
import random
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

FOLDER, ADDRESS, PORT, UP_ADDRESS, UP_PORT = sys.argv[1:6]
KINDS = {
    "/directory": "directory",
    "/nonce-plz": "newNonce",
    "/sign-me-up": "newAccount",
    "/order-plz": "newOrder",
    "/my-order/": "order",
    "/finalize-order/": "finalize",
    "/my-account/": "account",
    "/authZ/": "authorization",
    "/chalZ/": "challenge",
    "/certZ/": "certificate",
    "/renewal-info": "renewalInfo",
}
PASSED = ["Content-Type", "Replay-Nonce", "Location", "Link", "Retry-After"]
LOCK = threading.Lock()
CSR = [b""]


def control():
    with open(f"{FOLDER}/control.json") as file:
        return json.load(file)


def log(line):
    with LOCK, open(f"{FOLDER}/log.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")


def context(name):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(f"{FOLDER}/{name}.crt", f"{FOLDER}/{name}.key")
    return made


CONTEXTS = {name: context(name) for name in ("server", "foreign")}


def upstream(method, path, host, body=None, content_type=None):
    """Pebble's answer; it makes its URLs of the host that it is asked for."""
    own = ssl.create_default_context()
    own.check_hostname, own.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection(UP_ADDRESS, int(UP_PORT), timeout=20, context=own)
    headers = {"Host": host, "User-Agent": "strange"}
    if content_type:
        headers["Content-Type"] = content_type
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, {k: answer.headers[k] for k in PASSED if k in answer.headers}, answer.read()
    finally:
        connection.close()


def openssl(*words, stdin=b"", folder=None):
    return subprocess.run(["openssl", *words], input=stdin, cwd=folder, check=True, capture_output=True).stdout


def signed(how):
    """A chain by an authority of our own, for the key of the last request or for another one."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    with tempfile.TemporaryDirectory() as here:
        openssl("req", "-x509", *curve, "-keyout", f"{here}/ca.key", "-out", f"{here}/ca.crt", "-days", "100",
                "-subj", f"/CN={how.get('issuer', 'strange')}")
        csr = CSR[0]
        if how.get("other_key"):
            csr = openssl("req", "-new", *curve, "-keyout", f"{here}/other.key", "-subj", "/CN=other", "-outform", "DER")
        with open(f"{here}/extensions", "w") as file:
            file.write("subjectAltName=" + ",".join(f"DNS:{name}" for name in how["names"]))
        with open(f"{here}/ca.cnf", "w") as file:
            file.write("[ca]\ndefault_ca=d\n[d]\ndatabase=index\nnew_certs_dir=.\ndefault_md=sha256\nrand_serial=yes\npolicy=p\n[p]\n")
        open(f"{here}/index", "w").close()
        with open(f"{here}/csr.pem", "wb") as file:
            file.write(openssl("req", "-inform", "DER", stdin=csr))
        begin = time.time() - how.get("age", 0)
        dates = [time.strftime("%Y%m%d%H%M%SZ", time.gmtime(at)) for at in (begin, begin + 90 * 86400)]
        # x509(1) always begins now.
        leaf = openssl("ca", "-batch", "-notext", "-config", "ca.cnf", "-in", "csr.pem",
                       "-cert", "ca.crt", "-keyfile", "ca.key", "-extfile", "extensions",
                       "-startdate", dates[0], "-enddate", dates[1], folder=here)
        with open(f"{here}/ca.crt", "rb") as file:
            return leaf + file.read()


def chain(pem, how):
    if how["how"] == "alone":
        end = b"-----END CERTIFICATE-----\n"
        return pem[: pem.index(end) + len(end)]
    if how["how"] == "windows":
        return b"\r\n" + pem.replace(b"\n", b"\r\n").replace(b"-----\r\n-----", b"-----\r\n\r\n\r\n-----")
    return signed(how)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def setup(self):
        # In the connection's own thread: a slow handshake holds up nobody else.
        self.request = CONTEXTS["foreign" if control().get("foreign") else "server"].wrap_socket(
            self.request, server_side=True)
        super().setup()

    def date_time_string(self, timestamp=None):
        return super().date_time_string(time.time() + control().get("clock", 0))

    def log_message(self, *_):
        pass

    def reply(self, status, headers, body, done):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        line = {"kind": self.kind, "host": self.headers["Host"], "status": status, "done": done}
        if self.kind == "authorization" and status == 200:
            line["tokens"] = [c["token"] for c in json.loads(body).get("challenges", [])]
        log(line)

    def problem(self, status, kind, detail, headers):
        body = {"type": f"urn:ietf:params:acme:error:{kind}", "detail": detail, "status": status}
        self.reply(status, {"Content-Type": "application/problem+json", **headers}, json.dumps(body).encode(), "problem")

    def handle_any(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else None
        self.kind = next((kind for path, kind in KINDS.items() if self.path.startswith(path)), "other")
        wish = control()
        for wait in ("hang", "hold"):
            if wish.get(wait) == self.kind:
                log({"kind": self.kind, "host": self.headers["Host"], "done": wait})
                while control().get(wait) == self.kind:
                    time.sleep(0.05)
                if wait == "hang":
                    self.close_connection = True
                    return
        answer = wish.get("answer", {})
        if answer.get("on") in (self.kind, "*"):
            headers = answer.get("headers", {})
            if "problem" in answer:
                self.problem(answer["status"], answer["problem"], answer.get("detail", ""), headers)
            else:
                self.reply(answer["status"], {"Content-Type": "text/html", **headers}, answer["html"].encode(), "html")
            return
        if self.kind == "renewalInfo":
            self.advise(wish.get("advice", {}))
            return
        host = self.headers["Host"]
        if body and random.randrange(100) < wish.get("nonces", 0):
            _, headers, _ = upstream("HEAD", "/nonce-plz", host)
            self.problem(400, "badNonce", "a nonce that nobody likes", headers)
            return
        if self.kind == "finalize":
            payload = json.loads(body)["payload"]
            csr = json.loads(base64.urlsafe_b64decode(payload + "=="))["csr"]
            CSR[0] = base64.urlsafe_b64decode(csr + "==")
        replaces = None
        if self.kind == "newOrder":
            payload = json.loads(body)["payload"]
            replaces = json.loads(base64.urlsafe_b64decode(payload + "==")).get("replaces")
        if replaces and wish.get("replaced"):
            _, headers, _ = upstream("HEAD", "/nonce-plz", host)
            self.problem(409, "alreadyReplaced", "it was replaced", headers)
            return
        path = "/dir" if self.kind == "directory" else self.path
        status, headers, content = upstream(self.command, path, host, body, self.headers.get("Content-Type"))
        if self.kind == "directory" and "advice" in wish:
            content = json.dumps({**json.loads(content), "renewalInfo": f"https://{host}/renewal-info"}).encode()
        if replaces and status == 201:
            # RFC 9773 section 5; Pebble knows it from version 2.8 on.
            content = json.dumps({**json.loads(content), "replaces": replaces}).encode()
        if self.kind == "certificate" and status == 200 and "chain" in wish:
            content = chain(content, wish["chain"])
        self.reply(status, headers, content, "passed")

    def advise(self, advice):
        if advice.get("status", 200) != 200:
            self.reply(advice["status"], advice.get("headers", {}), b"<html>no</html>", "advice")
            return
        at = lambda key: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + advice[key]))
        body = {"suggestedWindow": {"start": at("start"), "end": at("end")}}
        if "url" in advice:
            body["explanationURL"] = advice["url"]
        headers = {"Content-Type": "application/json", **advice.get("headers", {})}
        self.reply(200, headers, json.dumps(body).encode(), "advice")

    do_GET = do_POST = do_HEAD = handle_any


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    address_family = socket.AF_INET6 if ":" in ADDRESS else socket.AF_INET

    def handle_error(self, *_):
        # A client that goes away, or that does not take our certificate.
        log({"kind": "connection", "done": str(sys.exc_info()[1])})


os.umask(0o077)
Server((ADDRESS, int(PORT)), Handler).serve_forever()
