"""What a remote read is answered with: one message of samples, or a stream of chunks."""

from collections.abc import Iterator, Sequence

import numpy as np

from tocsin_alerting.promql.eval.limits import Budget, QueryLimitExceeded
from tocsin_alerting.remote_read.crc32c import crc32c
from tocsin_alerting.remote_read.samples import ReadSamples
from tocsin_alerting.remote_read.xor_chunk import CHUNK_SAMPLES, xor_chunk
from tocsin_alerting.remote_write.prompb import (
    write_head,
    write_number,
    write_part,
    write_text,
    write_varint,
)
from tocsin_alerting.remote_write.snappy import compress
from tocsin_alerting.tsdb.values import Floats, Ints
from tocsin_exporter.snapshot import Labels

FRAME_BYTES = 1 << 20  # of the chunks of a frame, as Prometheus's --storage.remote.read-max-bytes..
MOST_BYTES = 64 << 20  # of a message of samples, which is in memory whole, twice
_PIECE_BYTES = 256 << 10
_XOR = 1
_SAMPLE = np.dtype(
    [
        ("head", "u1", 2),
        ("value_tag", "u1"),
        ("value", "<f8"),
        ("time_tag", "u1"),
        ("time", "u1", 6),
    ]
)


def samples_message(
    queries: Sequence[ReadSamples], budget: Budget, most_bytes: int = MOST_BYTES
) -> bytes:
    """A ReadResponse in snappy. Raises QueryLimitExceeded and QueryTimeout."""
    parts, size = list[bytes](), 0
    for read in queries:
        series = []
        for labels, times, values in read.series():
            series.append(write_part(1, write_labels(labels) + write_samples(times, values)))
            budget.check_time()
            size += len(series[-1])
            if size > most_bytes:
                raise QueryLimitExceeded(
                    f"the answer is longer than {most_bytes >> 20} MiB as single samples;"
                    " accept STREAMED_XOR_CHUNKS"
                )
        parts += [write_head(1, sum(map(len, series))), *series]
    return compress(parts)


def chunk_stream(queries: Sequence[ReadSamples], frame_bytes: int = FRAME_BYTES) -> Iterator[bytes]:
    """Frames of ChunkedReadResponse, some together."""
    piece = bytearray()
    for index, read in enumerate(queries):
        for labels, times, values in read.series():
            head = write_labels(labels)
            for chunks in _chunk_groups(times, values.view(np.int64), frame_bytes):
                series = write_part(1, head + chunks)
                piece += _frame(series + (write_number(2, index) if index else b""))
                if len(piece) >= _PIECE_BYTES:
                    yield bytes(piece)
                    piece.clear()
    yield bytes(piece)


def write_labels(labels: Labels) -> bytes:
    pairs = (write_text(1, name) + write_text(2, value) for name, value in labels)
    return b"".join(write_part(1, pair) for pair in pairs)


def write_samples(times: Ints, values: Floats) -> bytes:
    """Field 2 of a series, again and again: as remote_write/fast_scan.py has it."""
    if len(times) and 1 << 35 <= times[0] and times[-1] < 1 << 42:  # six bytes of seven bits
        rows = np.empty(len(times), _SAMPLE)
        rows["head"], rows["value_tag"], rows["value"], rows["time_tag"] = (0x12, 16), 9, values, 16
        sevens = times[:, None] >> np.arange(0, 42, 7) & 0x7F
        sevens[:, :5] |= 0x80
        rows["time"] = sevens
        return rows.tobytes()
    return b"".join(
        write_part(2, b"\x09" + value.tobytes() + write_number(2, at_ms))
        for value, at_ms in zip(values, times.tolist(), strict=True)
    )


def _chunk_groups(times: Ints, bits: Ints, frame_bytes: int) -> Iterator[bytes]:
    """The chunks of a series, as many as a frame holds."""
    group = bytearray()
    for start in range(0, len(times), CHUNK_SAMPLES):
        of, words = times[start : start + CHUNK_SAMPLES].tolist(), bits[start:][:CHUNK_SAMPLES]
        data = xor_chunk(of, words.tolist())
        span = write_number(1, of[0]) + write_number(2, of[-1]) + write_number(3, _XOR)
        group += write_part(2, span + write_part(4, data))
        if len(group) >= frame_bytes:
            yield bytes(group)
            group.clear()
    if group:
        yield bytes(group)


def _frame(message: bytes) -> bytes:
    return write_varint(len(message)) + crc32c(message).to_bytes(4, "big") + message
