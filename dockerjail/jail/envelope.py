r"""
A line as Docker's json-file driver writes it to its file. Pure.

People had fail2ban read `/var/lib/docker/containers/*/*-json.log`, where a line is
`{"log":"TEXT\n","stream":"stdout","time":"2026-11-22T10:52:40.409746684Z"}`, and wrote
their regexes for that. The driver is Go: its encoder writes `<`, `>` and `&` as `\u00..`
(moby/moby, pkg/jsonlog).
"""

import json
import re
from datetime import UTC, datetime
from typing import Final

from dockerjail.model import Stream

_HTML: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})
_FRAME: Final = b'{"log":"\\n","stream":"stdout","stderr","time":"'
_STAMP: Final = re.compile(rb"[0-9TZ:.-]+")
_ESCAPES: Final = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,4}|.)?", re.DOTALL)


def wrap(text: str, at: float, stream: Stream) -> str:
    """Return `text`, without its line end, as it stands in the file; the fraction in microseconds."""
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    log = json.dumps(f"{text}\n", ensure_ascii=False).translate(_HTML)
    return f'{{"log":{log},"stream":"{stream.name.lower()}","time":"{moment}"}}'


def inside(literal: bytes) -> tuple[bytes, ...]:
    r"""
    Return what of a literal must stand in the bare line for it to stand in the wrapped one.

    What JSON escapes is written differently there, and what the frame has needs no line:
    `failed\n","stream` requires `failed`.
    """
    pieces = re.split(rb'[\x00"<>&/\x7f-\xff]+', _ESCAPES.sub(b"\0", literal))
    return tuple(
        piece
        for piece in pieces
        if len(piece) > 1 and piece not in _FRAME and not _STAMP.fullmatch(piece)
    )
