#!/usr/bin/env python3
"""Checks that each line of standard input is an object of JSON with the members
of kpopd --check, which are texts, and that it is ASCII."""
import json
import sys

VERDICTS = {"ok", "warn", "FAIL"}
MEMBERS = {"verdict", "kind", "name", "found", "remedy"}

for line in sys.stdin.buffer:
    members = json.loads(line.decode("ascii"))
    assert members["verdict"] in VERDICTS, line
    assert {"kind", "found"} <= set(members) <= MEMBERS, line
    assert all(isinstance(text, str) for text in members.values()), line
