"""Mistakes to plant into the incidents service, and all mutants together."""

from __future__ import annotations

from tests.faults import mutations, mutations_notify, mutations_route
from tests.faults.mutations import Edit, Mutant

LOOP, FOLD = "lapwing/incidents/incident_loop.py", "shared/incidents/fold.py"
INCIDENT, GROUPING = "shared/incidents/incident.py", "shared/incidents/grouping.py"
KILLS = "incidents: kill -9 at random"

MUTANTS = (
    *mutations.MUTANTS,
    *mutations_notify.MUTANTS,
    *mutations_route.MUTANTS,
    Mutant(
        "incidents: the state is not read back",
        (
            Edit(
                LOOP,
                "IncidentFold(self.rules, self.dependencies.read_state())",
                "IncidentFold(self.rules)",
            ),
        ),
        (KILLS,),
    ),
    Mutant(
        "incidents: the position is committed before the changes",
        (
            Edit(
                LOOP,
                "            if changes:\n                sink.send(",
                "            sink.commit({PARTITION: position})\n"
                "            if changes:\n                sink.send(",
            ),
        ),
        (KILLS,),
        tries=3,
    ),
    Mutant(
        "incidents: a restart begins at the end of the topic",
        (
            Edit(
                LOOP,
                "offset = self.fold.last_offset if position is None else position.offset",
                "offset = self.fold.last_offset + 12 if position is None else position.offset + 1",
            ),
        ),
        (KILLS,),
    ),
    Mutant(
        "incidents: closed with the first episode that ends",
        (
            Edit(
                INCIDENT,
                "return any(episode.is_open for episode in self.episodes)",
                "return all(episode.is_open for episode in self.episodes)",
            ),
        ),
        (KILLS,),
        sign=mutations.STUCK,
    ),
    Mutant(
        "incidents: a corrected start is ignored",
        (Edit(GROUPING, "start=min(episode.start, news.start),", "start=episode.start,"),),
        (KILLS,),
    ),
    Mutant(
        "incidents: an anomaly that comes twice counts twice",
        (
            Edit(
                FOLD,
                "        if tuple(episodes) != incident.episodes:\n",
                "        if True:\n",
            ),
        ),
        (KILLS,),
    ),
)
