"""Datasette with a small database, under its mount (which is a setting of its own)."""

import sqlite3
from contextlib import closing

from datasette.app import Datasette

with closing(sqlite3.connect("numbers.db")) as database, database:
    database.execute("drop table if exists squares")
    database.execute("create table squares (number integer primary key, square integer)")
    database.executemany("insert into squares values (?, ?)", [(n, n * n) for n in range(1, 20_001)])

app = Datasette(["numbers.db"], settings={"base_url": "/datasette/", "max_csv_mb": 10}).app()
