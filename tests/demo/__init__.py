"""`make demo`: the whole way once, with real processes on this machine.

`play.py` has the nine scenes, `thief.py` what the thieves in it do, `__main__.py` runs them and prints the table.  What is shown is read
from libtorrent's per-peer counters, from the server's database and from Portage's package database.
"""
