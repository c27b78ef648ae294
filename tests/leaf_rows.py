"""Rows of the log in memory: what the store gives the log, without a database."""

from dataclasses import replace


class LeafRows:
    """The rows of one or more epochs, each in order."""

    def __init__(self, rows=()):
        self.rows = []
        self.bodies = {}
        self.last = {}
        for row in rows:
            self.add_leaf(row)

    def leaf_of(self, kind, body):
        return self.bodies.get((kind, body))

    def last_leaf(self, epoch):
        return self.last.get(epoch)

    def leaves(self, epoch, start, stop):
        return [row for row in self.rows if row.epoch == epoch and start <= row.index < stop]

    def add_leaf(self, row):
        self.rows.append(row)
        self.bodies[row.kind, row.body] = self.last[row.epoch] = row

    def erase(self, index):
        row = self.rows[index]
        del self.bodies[row.kind, row.body]
        self.rows[index] = replace(row, body=None, salt=None)
