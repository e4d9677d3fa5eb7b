"""The binary formats of Xet: shards, xorbs, and the compression of their chunks."""

import struct
from dataclasses import dataclass

import lz4.frame


@dataclass(frozen=True)
class Chunk:
    """A chunk of a xorb: where it lies, how it is compressed, its payload, and its size in the file."""

    start: int
    end: int
    scheme: int
    payload: slice
    size: int


def xet_hex(raw: bytes) -> str:
    """A MerkleHash prints as four little-endian integers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


def shard_files(data: bytes) -> list[tuple[str, str | None, list[tuple[str, int, int, int]]]]:
    """Files of a shard: `(file_hash, sha256, [(xorb, size, first_chunk, end_chunk)])`."""
    if data[:14] != b"HFRepoMetaData":
        raise ValueError("not a shard")
    position, files = 48, []
    while True:
        head, (flags, count) = data[position : position + 32], struct.unpack_from("<II", data, position + 32)
        position += 48
        if head == b"\xff" * 32:
            return files
        terms, sha256 = [], None
        for _ in range(count):
            _, size, start, end = struct.unpack_from("<4I", data, position + 32)
            terms.append((xet_hex(data[position : position + 32]), size, start, end))
            position += 48
        if flags & (1 << 31):
            position += 48 * count
        if flags & (1 << 30):
            sha256, position = xet_hex(data[position : position + 32]), position + 48
        files.append((xet_hex(head), sha256, terms))


def xorb_chunks(data: bytes) -> list[Chunk]:
    position, chunks = 0, []
    while position + 8 <= len(data) and data[position : position + 7] != b"XETBLOB":
        compressed = int.from_bytes(data[position + 1 : position + 4], "little")
        size = int.from_bytes(data[position + 5 : position + 8], "little")
        end = position + 8 + compressed
        chunks.append(Chunk(position, end, data[position + 4], slice(position + 8, end), size))
        position = end
    return chunks


def decompress(scheme: int, payload: bytes) -> bytes:
    """Stored (0), LZ4 (1), or LZ4 of bytes grouped by their position modulo 4 (2)."""
    if scheme == 0:
        return payload
    raw = lz4.frame.decompress(payload)
    if scheme == 1:
        return raw
    size, position = len(raw), 0
    out = bytearray(size)
    for group in range(4):
        length = (size - group + 3) // 4
        out[group::4] = raw[position : position + length]
        position += length
    return bytes(out)
