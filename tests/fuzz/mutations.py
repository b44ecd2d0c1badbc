"""Files of ours, damaged: what a bad disk, a bad editor or a bad person makes of them. Everything is by one seed."""

import json
import struct

import numpy as np

# Texts are put into the JSON as they are, since Python's own writer would refuse some of them.
RAW = [
    "NaN",
    "-Infinity",
    "1e999",
    "9" * 5000,
    "1" * 40,
    "[" * 5000 + "]" * 5000,
    '"\\ud800"',
    '"\\u202e\\n\\u001b[31m"',
]
PLAIN = [
    None, True, False, -1, 0, 1, 3, 1.5, 64.0, 1e-320, 1e300, 10**9, 2**31, 2**63, 10**30, -(10**12), "x", "",
    "y" * 100_000, [], {}, [[[]]], [1] * 1000, [1.5], {"a": 1}, ["x"], [64, 128, 192, 256], "flow", "pfj", [True],
]  # fmt: skip
DTYPES = ["F32", "F16", "BF16", "F64", "I32", "I64", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F4", "C64", "x", "U16"]
WORDS = ["0", "-1", "1e9", "true", "null", "[]", "{", '"', ",", "\x00", "\ud7ff", "65", "9999999", "\n"]


def pick(rng, values):
    return values[int(rng.integers(len(values)))]


def split_file(data):
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join_file(header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def flip_bits(data, rng, start=0, stop=None):
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        changed[int(rng.integers(start, stop or len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def flip_header(data, rng):
    return flip_bits(data, rng, 8, 8 + struct.unpack("<Q", data[:8])[0])


def cut(data, rng):
    return data[: int(rng.integers(len(data)))]


def lengthen(data, rng):
    return data + bytes(int(rng.integers(1, 1000)))


def lie_about_length(data, rng):
    length = pick(rng, [0, 1, 2, 7, len(data), len(data) - 8, 2**31, 2**63, 2**64 - 1, int(rng.integers(2**40))])
    return struct.pack("<Q", length) + data[8:]


def set_values(data, rng):
    """A weight that is NaN, infinite, or very large."""
    header, body = split_file(data)
    entry = header[pick(rng, [key for key in header if key != "__metadata__"])]
    first, last = entry["data_offsets"]
    size = {"F32": 4, "F16": 2}.get(entry["dtype"], 0)
    if not size or last - first < size:
        return flip_bits(data, rng)
    value = np.array(pick(rng, [np.nan, np.inf, -np.inf]), dtype=f"f{size}").tobytes()
    place = first + int(rng.integers((last - first) // size)) * size
    return join_file(header, body[:place] + value + body[place + size :])


def edit_tensors(data, rng):
    """Names, types, shapes and places of tensors."""
    header, body = split_file(data)
    key = pick(rng, [key for key in header if key != "__metadata__"])
    how = int(rng.integers(8))
    if how == 0:
        del header[key]
    elif how == 1:
        header[key + pick(rng, ["x", "\n", "\u202e", "y" * 10_000])] = header.pop(key)
    elif how == 2:
        header[key]["dtype"] = pick(rng, DTYPES)
    elif how == 3:
        header[key]["shape"] = header[key]["shape"][::-1] + pick(
            rng, [[], [1], [0], [-1], [2**62], [1.5], [True], ["x"]]
        )
    elif how == 4:
        header[key]["shape"] = [int(np.prod(header[key]["shape"], dtype=np.int64))]
    elif how == 5:
        header[key]["data_offsets"] = pick(rng, [[0, 0], [5, 1], [0, 2**62], [-1, 3], [], "x", [0.5, 1]])
    elif how == 6:
        return drop_tensors(header, body, [key])
    else:
        header[key] = pick(rng, PLAIN)
    return join_file(header, body)


def drop_tensors(header, body, dropped):
    """The same file without some tensors, its bytes moved up so that it stays whole."""
    kept, parts, place = {}, [], 0
    for key, entry in header.items():
        if key == "__metadata__":
            kept[key] = entry
        elif key not in dropped:
            first, last = entry["data_offsets"]
            kept[key] = {**entry, "data_offsets": [place, place + last - first]}
            parts.append(body[first:last])
            place += last - first
    return join_file(kept, b"".join(parts))


def recast(data, rng):
    """All tensors, or one, as another type of the same values, whole otherwise."""
    header, body = split_file(data)
    old, new = {"F32": np.float32, "F16": np.float16}, pick(rng, [np.float16, np.float64, np.int32, np.uint8])
    words = {np.float16: "F16", np.float64: "F64", np.int32: "I32", np.uint8: "U8"}
    keys = [key for key in header if key != "__metadata__" and header[key]["dtype"] in old]
    chosen, parts, place = {pick(rng, keys)} if rng.random() < 0.7 else set(keys), [], 0
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        first, last = entry["data_offsets"]
        part = body[first:last]
        if key in chosen:
            with np.errstate(all="ignore"):
                part = np.frombuffer(part, old[entry["dtype"]]).astype(new).tobytes()
            entry["dtype"] = words[new]
        entry["data_offsets"] = [place, place + len(part)]
        parts.append(part)
        place += len(part)
    return join_file(header, b"".join(parts))


def edit_metadata(data, rng):
    header, body = split_file(data)
    metadata = header["__metadata__"]
    key = pick(rng, list(metadata))
    how = int(rng.integers(5))
    if how == 0:
        del metadata[key]
    elif how == 1:
        metadata[key] = pick(rng, ["", "adadiffsr/2", "mmle", "lora\n\x1b[31m", "\u202e", "z" * 100_000, *RAW])
    elif how == 2:
        metadata[key] = pick(rng, PLAIN)
    elif how == 3:
        metadata[key] = scribble(metadata[key], rng)
    else:
        header["__metadata__"] = pick(rng, PLAIN)
    return join_file(header, body)


def edit_described(data, rng):
    """The config or the facts, which are JSON in the header's JSON."""
    header, body = split_file(data)
    metadata = header["__metadata__"]
    key = pick(rng, [key for key in ("config", "config", "facts") if key in metadata])
    metadata[key] = edit_json(metadata[key], rng)
    return join_file(header, body)


def edit_json(text, rng):
    """JSON with something in it replaced, removed, added or said twice."""
    values = json.loads(text)
    holder, key = pick(rng, list(places(values)) or [({"": values}, "")])
    how = int(rng.integers(6))
    if how == 0:
        del holder[key]
    elif how == 1 and isinstance(holder, dict):
        holder[pick(rng, ["x", "\n", "\ud800", "w" * 10_000, "mmle", "channels"])] = pick(rng, PLAIN)
    elif how == 2:
        holder[key] = "@raw@"
        return json.dumps(values).replace('"@raw@"', pick(rng, RAW))
    elif how == 3 and isinstance(holder, dict):
        twice = f"{json.dumps(key)}: {json.dumps(pick(rng, PLAIN))}, {json.dumps(key)}:"
        return json.dumps(values).replace(f"{json.dumps(key)}:", twice, 1)
    elif how == 4 and isinstance(holder[key], int | float):
        holder[key] = pick(
            rng, [-holder[key], holder[key] * 2, holder[key] + 0.5, holder[key] * 10**6, float(holder[key])]
        )
    else:
        holder[key] = pick(rng, PLAIN)
    return json.dumps(values)


def places(values):
    """Everything in plain values that could be replaced, with what holds it."""
    for key in values if isinstance(values, dict) else range(len(values)) if isinstance(values, list) else ():
        yield values, key
        yield from places(values[key])


def scribble(text, rng):
    """Text with some characters replaced by others."""
    place = int(rng.integers(len(text) + 1))
    return text[:place] + pick(rng, WORDS) + text[place + int(rng.integers(4)) :]


WHOLE_FILES = [flip_bits, flip_header, cut, lengthen, lie_about_length]
PARTS = [set_values, edit_tensors, recast, edit_metadata, edit_described, edit_described, edit_described]


def mutate(data, rng):
    """Damage a safetensors file of ours in one way, or two."""
    kind = pick(rng, WHOLE_FILES + PARTS * 2)
    changed = kind(data, rng)
    return f"{kind.__name__}", changed


def mutate_note(data, rng):
    """Damage a small JSON file."""
    kind = pick(rng, ["flip", "cut", "json", "json", "scribble", "raw"])
    if kind == "flip":
        return kind, flip_bits(data, rng)
    if kind == "cut":
        return kind, cut(data, rng)
    if kind == "raw":
        return kind, pick(rng, [*RAW, "", "[]", "3", "null"]).encode()
    text = data.decode()
    return kind, (edit_json if kind == "json" else scribble)(text, rng).encode("utf-8", "surrogatepass")


def mutate_array(data, rng):
    """Damage an .npy file."""
    kind = pick(rng, ["flip", "flip_header", "cut", "scribble", "nan", "empty"])
    if kind == "flip":
        return kind, flip_bits(data, rng)
    if kind == "flip_header":
        return kind, flip_bits(data, rng, 0, 128)
    if kind == "cut":
        return kind, cut(data, rng)
    if kind == "empty":
        return kind, b""
    if kind == "nan":
        return kind, data[:128] + b"\x00\x7e" + data[130:]
    place = int(rng.integers(10, 120))
    return kind, data[:place] + pick(rng, WORDS).encode("utf-8", "surrogatepass") + data[place + 1 :]
