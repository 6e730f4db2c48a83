"""Many clients at once, and the program that they talk to. Both on one thread each, so that thousands of idle ones cost little.

usage: crowd.py serve PORT
         a program: pages, `/ws` (says back what it gets), `/events` (an event a second), and bodies of any length, which it counts
       crowd.py visit NAME CA SECONDS ADDRESS[,ADDRESS…] [websockets=N] [pages=A SECOND] [uploads=N] [events=N] [slow=N]
         as many clients of each kind for so long, all over TLS with the certificate verified; prints what became of them as JSON
"""

import asyncio
import base64
import collections
import hashlib
import json
import ssl
import sys
import time


# --- the program -------------------------------------------------------------------------------------------------------------
async def serve_one(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            path = first.split(" ")[1]
            fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            if path == "/ws" and fields.get("upgrade") == "websocket":
                key = fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
                accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
                writer.write(f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                             f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
                while data := await reader.read(1024):
                    writer.write(data)
                    await writer.drain()
                return
            if path == "/events":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                while True:
                    writer.write(b"9\r\ndata: x\n\n\r\n")
                    await writer.drain()
                    await asyncio.sleep(1)
            size = int(fields.get("content-length", 0))
            if "chunked" in fields.get("transfer-encoding", ""):
                while part := int((await reader.readline()), 16):
                    await reader.readexactly(part + 2)
                    size += part
                await reader.readline()
            else:
                left = size
                while left:
                    got = await reader.read(min(left, 65536))
                    if not got:
                        return
                    left -= len(got)
            body = b"%d bytes\n" % size
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError, OSError):
        pass
    finally:
        writer.close()


async def serve(port):
    server = await asyncio.start_server(serve_one, "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


# --- the clients -------------------------------------------------------------------------------------------------------------
class Crowd:
    def __init__(self, name, ca, seconds, addresses):
        self.name, self.addresses = name, addresses
        self.tls = ssl.create_default_context(cafile=ca)
        self.seconds, self.number = seconds, 0
        self.done, self.wrong, self.times = collections.Counter(), collections.Counter(), []
        # A handshake is work for both sides: so many at once.
        self.handshakes = asyncio.Semaphore(64)

    async def connect(self):
        self.number += 1
        address = self.addresses[self.number % len(self.addresses)]
        async with self.handshakes:
            return await asyncio.wait_for(
                asyncio.open_connection(address, 443, ssl=self.tls, server_hostname=self.name), 60)

    def head(self, first, *lines):
        return "\r\n".join([first + " HTTP/1.1", "Host: " + self.name, *lines, "", ""]).encode()

    async def count(self, kind, work):
        try:
            await work
            self.done[kind] += 1
        except Exception as error:  # whatever it is, it is told
            self.wrong[f"{kind}: {type(error).__name__} {error}"[:160]] += 1

    async def answer(self, reader):
        """The status of an answer, its body read."""
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode("latin-1")
        length = [line for line in head.lower().split("\r\n") if line.startswith("content-length: ")]
        await reader.readexactly(int(length[0].split(": ")[1]) if length else 0)
        status = int(head.split(" ")[1])
        if status != 200:
            raise ValueError(f"answered {status}")

    async def websocket(self, opened, end):
        try:
            reader, writer = await self.connect()
            writer.write(self.head("GET /ws", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                                   "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg=="))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            if b" 101 " not in head:
                raise ValueError(head.split(b"\r\n")[0].decode("latin-1"))
            self.done["websockets opened"] += 1
        finally:
            opened.put_nowait(None)
        await end.wait()
        writer.write(b"still here")
        if await asyncio.wait_for(reader.readexactly(10), 60) != b"still here":
            raise ValueError("another answer")
        writer.close()

    async def page(self):
        began = time.monotonic()
        reader, writer = await self.connect()
        writer.write(self.head("GET /page", "Connection: close"))
        await self.answer(reader)
        writer.close()
        self.times.append(time.monotonic() - began)

    async def pages(self, rate, until):
        tasks, next_one = set(), time.monotonic()
        while next_one < until:
            await asyncio.sleep(max(0, next_one - time.monotonic()))
            task = asyncio.ensure_future(self.count("pages", self.page()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            next_one += 1 / rate
        await asyncio.gather(*tasks)

    async def uploads(self, until):
        reader, writer = await self.connect()
        while time.monotonic() < until:
            writer.write(self.head("POST /upload", "Content-Length: 1048576") + b"u" * 1048576)
            await writer.drain()
            await self.count("uploads", self.answer(reader))
            await asyncio.sleep(0.5)
        writer.close()

    async def events(self, until):
        reader, writer = await self.connect()
        writer.write(self.head("GET /events"))
        while time.monotonic() < until:
            # Three seconds late is not as it came.
            line = await asyncio.wait_for(reader.readline(), 4)
            if not line:
                raise ValueError("the stream ended")
            if line.startswith(b"data"):
                self.done["events"] += 1
        writer.close()

    async def slow(self, until):
        """Sends a byte a second, of a body that has no end before the time is over."""
        reader, writer = await self.connect()
        writer.write(self.head("POST /slow", f"Content-Length: {max(1, int(until - time.monotonic()))}"))
        sent = 0
        total = max(1, int(until - time.monotonic()))
        while sent < total:
            writer.write(b"s")
            await writer.drain()
            sent += 1
            await asyncio.sleep(1)
        await self.answer(reader)
        writer.close()

    async def run(self, websockets=0, pages=0, uploads=0, events=0, slow=0):
        opened, end = asyncio.Queue(), asyncio.Event()
        began = time.monotonic()
        idle = [asyncio.ensure_future(self.count("websockets kept", self.websocket(opened, end))) for _ in range(websockets)]
        for _ in idle:
            await opened.get()
        print(f"{self.done['websockets opened']} websockets open after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
        until = time.monotonic() + self.seconds
        others = [self.pages(pages, until)] if pages else []
        for kind, number in (("uploads", uploads), ("events", events), ("slow", slow)):
            work = {"uploads": self.uploads, "events": self.events, "slow": self.slow}[kind]
            others += [self.count(kind + " clients", work(until)) for _ in range(number)]
        await asyncio.gather(*others)
        end.set()
        await asyncio.gather(*idle)
        self.times.sort()
        part = lambda share: round(1000 * self.times[min(len(self.times) - 1, int(share * len(self.times)))]) if self.times else None
        print(json.dumps({"done": self.done, "wrong": self.wrong,
                          "page_ms": {"half": part(0.5), "99 of 100": part(0.99), "all": part(1)}}))


def main():
    if sys.argv[1] == "serve":
        asyncio.run(serve(int(sys.argv[2])))
        return
    _, _, name, ca, seconds, addresses, *kinds = sys.argv
    numbers = {kind: int(number) for kind, _, number in (word.partition("=") for word in kinds)}

    async def visit():
        await Crowd(name, ca, int(seconds), addresses.split(",")).run(**numbers)

    asyncio.run(visit())


main()
