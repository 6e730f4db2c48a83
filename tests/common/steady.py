"""A steady load of pages and forms by the clock, each over a connection of its own; says as JSON what came back.

usage: steady.py ADDRESS NAME CA RATE SECONDS BYTES PATH
  GET and POST of BYTES in turn. Gives {"codes": {"GET 200": n, …}, "by": {"app1": n, …}, "last": {…}, "slowest": seconds}: who answered (the first word
  of the body), in all and in the last second.
"""

import asyncio
import collections
import json
import ssl
import sys
import time

ADDRESS, NAME, CA = sys.argv[1:4]
RATE, SECONDS, BYTES, PATH = float(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6]), sys.argv[7]
codes, by, last, slowest = collections.Counter(), collections.Counter(), collections.Counter(), 0
tls = ssl.create_default_context(cafile=CA)


async def one(method, began):
    global slowest
    sent = time.monotonic()
    body = b"b" * BYTES if method == "POST" else b""
    head = f"{method} {PATH} HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    try:
        reader, writer = await asyncio.open_connection(ADDRESS, 443, ssl=tls, server_hostname=NAME)
        writer.write(head.encode() + body)
        await writer.drain()
        answer = await reader.read()
        writer.close()
        words = answer.split(b"\r\n\r\n", 1)[1].decode(errors="replace").split()
        codes[method + " " + answer.split(b" ", 2)[1].decode()] += 1
        by[words[0] if words else ""] += 1
        if sent - began > SECONDS - 1:
            last[words[0] if words else ""] += 1
    except Exception as error:
        codes[f"{method} {error!r}"] += 1
    slowest = max(slowest, time.monotonic() - sent)


async def main():
    began, tasks = time.monotonic(), []
    while time.monotonic() - began < SECONDS:
        tasks.append(asyncio.create_task(one("POST" if len(tasks) % 2 else "GET", began)))
        await asyncio.sleep(max(0, began + len(tasks) / RATE - time.monotonic()))
    await asyncio.gather(*tasks)
    print(json.dumps({"codes": codes, "by": by, "last": last, "slowest": slowest}))


asyncio.run(main())
