"""Reads a Delta table with Polars (its Delta reader) and prints its rows as JSON lines, with doubles as their bits.

usage: read.py TABLE COLUMN...
"""
import json, struct, sys
import polars as pl

table, columns = sys.argv[1], sys.argv[2:]
for row in pl.read_delta(table).select(columns).iter_rows(named=True):
    print(json.dumps({k: f"{struct.unpack('<Q', struct.pack('<d', v))[0]:016x}" if isinstance(v, float) else v for k, v in row.items()}, default=str))
