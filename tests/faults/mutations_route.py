"""Mistakes to plant into the route service."""

from __future__ import annotations

from tests.faults.mutations import Edit, Mutant

LOOP = "lapwing/route/route_loop.py"
KILLS = "route: kill -9 at random"

MUTANTS = (
    Mutant(
        "route: positions are committed before the events",
        (
            Edit(
                LOOP,
                "        self._send(batch, routed, refused)\n",
                "        position = Position(int(batch.offsets[row - 1]) + 1,"
                " self.topics.metadata())\n"
                "        self._sink.commit({batch.partition: position})\n"
                "        self._send(batch, routed, refused)\n",
            ),
        ),
        (KILLS,),
        tries=3,
    ),
    Mutant(
        "route: a restart begins one record too late",
        (
            Edit(
                LOOP,
                "offset = max(offset, position.offset)",
                "offset = max(offset, position.offset + 1)",
            ),
        ),
        (KILLS,),
    ),
    Mutant(
        "route: the rows of a record with a bad one are not written",
        (
            Edit(
                "lapwing/route/row_router.py",
                "        out.rows += row + 1\n",
                "        if refused:\n"
                "            out.keys.clear()\n"
                "            out.values.clear()\n"
                "        out.rows += row + 1\n",
            ),
        ),
        (KILLS,),
    ),
)
