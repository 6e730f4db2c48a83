"""A picture of a terminal: runs a command in one, answers `y` where it asks, and draws the screen that it leaves, with its colours.

terminal.py PICTURE.svg TITLE SHOWN COMMAND…: SHOWN is what stands behind the prompt.
"""
import os
import pty
import struct
import sys
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pyte
from rich.console import Console
from rich.text import Text

COLUMNS, ROWS = 112, 400

# rich's own format, without its fonts of a far host: a picture in a page may fetch nothing.
FORMAT = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def run(command: list[str]) -> tuple[pyte.Screen, int]:
    """The screen that the command leaves, and its exit code."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    child, master = pty.fork()
    if child == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execvp(command[0], command)
    ioctl(master, TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    asked = b""
    while True:
        try:
            read = os.read(master, 65536)
        except OSError:  # All who had the terminal open are gone.
            read = b""
        if not read:
            break
        stream.feed(read)
        asked = (asked + read)[-200:]
        if b"[y/N]" in asked:
            asked = b""
            os.write(master, b"y\n")
    return screen, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def colour(name: str) -> str:
    """pyte's name of a colour as rich has it."""
    if len(name) == 6 and all(digit in "0123456789abcdef" for digit in name):
        return "#" + name
    name = name.replace("brown", "yellow")
    return "bright_" + name[6:] if name.startswith("bright") else name


def line(screen: pyte.Screen, row: int) -> Text:
    """A line of the screen with its colours, without the empty end."""
    text = Text()
    for column in range(COLUMNS):
        cell = screen.buffer[row][column]
        style = [word for word, on in (("bold", cell.bold), ("italic", cell.italics), ("underline", cell.underscore)) if on]
        style += [colour(cell.fg)] if cell.fg != "default" else []
        text.append(cell.data, " ".join(style))
    text.rstrip()
    return text


picture, title, shown, *command = sys.argv[1:]
screen, code = run(command)
if code != 0:
    sys.exit("\n".join(screen.display).rstrip() + f"\n{picture}: the command ended with {code}")
lines = [line(screen, row) for row in range(ROWS)]
while lines and not lines[-1].plain:
    lines.pop()
console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True, color_system="truecolor")
for text in [Text.assemble(("$ ", "green"), (shown, "bold")), *lines]:
    console.print(text, no_wrap=True, overflow="crop", highlight=False)
Path(picture).write_text(console.export_svg(title=title, code_format=FORMAT, unique_id="t"))
