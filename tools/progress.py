"""How far a run is: one line that is drawn again and again, or a line every few seconds."""

import shutil
import sys
import time

from tools.report import duration

LINE_SECONDS = 10  # how often progress is printed where no line can be drawn again


class Progress:
    """Says which chapter is at which cell, for how long, and how long it took the last time."""

    def __init__(self, todo: list, stream=None):
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()
        self.jobs = {job.name: job for job in todo}
        self.running: dict[str, list] = {}
        self.printed = 0.0
        self.left = len(todo)

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self.live:
            blank = " " * (shutil.get_terminal_size().columns - 1)
            print(f"\r{blank}\r", end="", file=self.stream)
        print(text, file=self.stream, flush=True)

    def event(self, message: dict) -> None:
        """Take an event that a worker sent."""
        name = message["job"]
        if message["event"] == "start":
            self.printed = time.monotonic()
            self.running[name] = [self.printed, "starts"]
            self.say(f"{name}  starts, {self._expected(name)}")
        elif message["event"] == "cell" and name in self.running:
            self.running[name][1] = f"cell {message['cell']}/{message['cells']}"
        elif message["event"] == "stopped":
            self.running.pop(name, None)
        self.draw()

    def _expected(self, name: str) -> str:
        seconds = self.jobs[name].expected
        return "time unknown" if seconds is None else f"about {duration(seconds)}"

    def draw(self) -> None:
        """Show where every running chapter is."""
        now = time.monotonic()
        if not self.running or (not self.live and now - self.printed < LINE_SECONDS):
            return
        self.printed = now
        parts = [
            f"{name}  {where}  {duration(now - started)} ({self._expected(name)})"
            for name, (started, where) in self.running.items()
        ]
        text = "; ".join(parts) + f"  {self.left} to go"
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + text[:width].ljust(width), end="", file=self.stream, flush=True)
        else:
            print(text, file=self.stream, flush=True)
