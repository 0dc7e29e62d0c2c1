"""Reads metrics from standard input as the text format 0.0.4 is described, strictly, and writes them
as JSON. Shares no code with what makes them."""
import json
import re
import sys

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf"^({NAME})(?:\{{(.*)\}})? (\S+)$")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(,|$)')

text = sys.stdin.buffer.read().decode("utf-8")
assert text.endswith("\n"), "the last line has no end"
families, seen, current = {}, set(), None
for line in text[:-1].split("\n"):
    assert line and line == line.strip(), f"blank: {line!r}"
    if line.startswith("# HELP "):
        name, help_text = line[7:].split(" ", 1)
        assert re.fullmatch(NAME, name) and name not in families, f"twice: {name}"
        assert help_text
        families[name] = {"type": None, "samples": []}
        current = name
        continue
    if line.startswith("# TYPE "):
        name, kind = line[7:].split(" ")
        assert name == current and families[name]["type"] is None, f"misplaced: {line}"
        assert kind in ("counter", "gauge"), kind
        assert (kind == "counter") == name.endswith("_total"), f"{name} is a {kind}"
        families[name]["type"] = kind
        continue
    assert not line.startswith("#"), line
    match = SAMPLE.match(line)
    assert match, f"no sample: {line!r}"
    name, labels, value = match.groups()
    # All samples of one metric stand together behind its type.
    assert name == current and families[name]["type"], f"misplaced: {line}"
    pairs, rest = [], labels or ""
    while rest:
        label = LABEL.match(rest)
        assert label, f"labels: {line!r}"
        pairs.append((label.group(1), label.group(2)))
        rest = rest[label.end():]
    assert labels is None or pairs, f"empty labels: {line!r}"
    assert len({key for key, _ in pairs}) == len(pairs), f"a label twice: {line!r}"
    series = (name, tuple(sorted(pairs)))
    assert series not in seen, f"a series twice: {line!r}"
    seen.add(series)
    number = float(value)
    assert number == number and number >= 0, line
    families[name]["samples"].append({"labels": dict(pairs), "value": number})
for name, family in families.items():
    assert family["type"] and family["samples"], f"empty: {name}"
print(json.dumps(families))
