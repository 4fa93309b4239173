"""
Each line once, with all that makes lines hard to tell apart.

Lines of one moment, lines that are alike to the last byte, both streams out of order with each
other, pieces that are all the same, runs that end amid a line, and an Engine before 23 that sends
its followers a file again.
"""

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dockerjail.model import Stream
from tests.unit.test_intake import WEB, House, run_in_fake_time

OUT, ERR = Stream.STDOUT, Stream.STDERR
STREAMS = st.sampled_from((OUT, ERR))

ACTS = st.lists(
    st.one_of(
        # how many lines of one moment, and whether they are alike
        st.tuples(st.just("burst"), STREAMS, st.integers(1, 12), st.booleans()),
        st.tuples(st.just("both"), st.integers(1, 6)),
        st.tuples(st.just("late"), STREAMS, st.sampled_from((0.001, 0.3, 0.9))),
        st.tuples(st.just("alike"), STREAMS, st.integers(1, 3)),
        # a run that ends amid a line, and whether Podman's followers go on over that
        st.tuples(st.just("run anew"), STREAMS, st.booleans()),
        # a line that waits for its end while the other stream goes on, and whether we do not
        st.tuples(st.just("halves"), STREAMS, st.sampled_from((0.5, 4.0, 8.0)), st.booleans()),
        st.tuples(st.just("rotate"), st.integers(1, 5)),
        st.tuples(st.just("wait"), st.sampled_from((0.01, 1.0, 12.0, 40.0))),
        st.tuples(st.just("cut")),
        st.tuples(st.just("kill us")),
    ),
    max_size=20,
)


class Story:
    """What a container says, one act after the other, and what was made of it."""

    def __init__(self, *, version: str, whole_seconds: bool) -> None:
        self.house = House(version=version, lookback=1e6)
        self.house.engine.start(WEB)
        self.said: dict[Stream, list[str]] = {OUT: [], ERR: []}
        self._whole = whole_seconds
        self._newest = dict.fromkeys(Stream, 0.0)
        self._old = version.startswith("20.")
        self._podman = version.startswith("Podman")
        self._stack = contextlib.AsyncExitStack()

    async def begin(self) -> None:
        await self._stack.enter_async_context(self.house.running())

    async def end(self) -> None:
        await self._stack.aclose()

    async def act(self, number: int, what: str, *how: Any) -> None:
        match what:
            case "burst":
                at = self._moment(how[0])
                for again in range(how[1]):
                    self._say(f"{number} {0 if how[2] else again}", how[0], at)
            case "both":
                at = max(map(self._moment, Stream))
                for again in range(how[0]):
                    self._say(f"{number} {again}", (OUT, ERR)[again % 2], at)
            case "late":
                self._say(f"{number} late", how[0], self._moment(how[0], how[1]))
            case "alike":
                self._say("A" * 16384 * how[1] + "end", how[0], self._moment(how[0]))
            case "run anew":
                engine = self.house.engine
                self._say(f"{number} last", how[0], self._moment(how[0]), end=b"")
                await asyncio.sleep(0.01)
                engine.stop(WEB, unnoticed=how[1] and self._podman)
                await asyncio.sleep(0.3)
                engine.start(WEB)
                for stream in Stream:
                    self._newest[stream] = max(self._newest[stream], self.house.clock())
                self._say(f"{number} first", how[0], self._moment(how[0]))
                await asyncio.sleep(12)
            case "halves":
                stream, pause, killed = how
                at = self._moment(stream)
                self._say(f"{number} half", stream, at, end=b"")
                for again in range(3):
                    await asyncio.sleep(pause)
                    other = OUT if stream is ERR else ERR
                    self._say(f"{number} meanwhile {again}", other, self._moment(other))
                await asyncio.sleep(0.5)
                if killed:
                    await self.act(number, "kill us")
                    await asyncio.sleep(0.5)
                self.said[stream].pop()  # both halves are one line, with one stamp but for Podman
                at = self._moment(stream) if self._podman else at
                self._say(" and half", stream, at)
                self.said[stream][-1] = f"{number} half and half"
            case "rotate" if self._old:
                # the new file begins with what the followers have seen last
                log = self.house.engine.log(WEB)
                stands = list(log.frames)
                for entry in stands[-how[0] :]:
                    self.house.engine._write(WEB, entry)
                log.frames[:] = stands
            case "wait":
                await asyncio.sleep(how[0])
            case "cut":
                self.house.engine.cut()
            case "kill us":
                await self.end()
                await self.begin()

    def _moment(self, stream: Stream, late: float = 0.0) -> float:
        """Return a time for a line: not before those of its stream, a little before the other's."""
        now = max(self.house.clock() - late, self._newest[stream])
        return float(int(now)) if self._whole else now

    def _say(self, text: str, stream: Stream, at: float, end: bytes = b"\n") -> None:
        self._newest[stream] = max(self._newest[stream], at)
        self.said[stream].append(text)
        self.house.say(text, stream=stream, at=self._newest[stream], end=end)


@pytest.mark.parametrize(
    ("version", "whole_seconds"),
    [("20.10.24", False), ("26.1.5", False), ("Podman 5.8.0", False), ("Podman 5.4.2", True)],
)
@settings(max_examples=30, deadline=None)
@given(acts=ACTS)
def test_each_line_is_delivered_once_however_alike(version, whole_seconds, acts):
    async def story():
        each = Story(version=version, whole_seconds=whole_seconds)
        await each.begin()
        try:
            for number, (act, *how) in enumerate(acts):
                await each.act(number, act, *how)
            await asyncio.sleep(120)
        finally:
            await each.end()  # which says what went wrong inside
        for stream in Stream:
            assert each.house.texts(stream=stream) == each.said[stream]
        assert sum(tail.gaps for tail in each.house.intake.tails.values()) == 0

    run_in_fake_time(story())
