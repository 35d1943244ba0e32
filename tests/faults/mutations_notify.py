"""Mistakes to plant into the notify service."""

from __future__ import annotations

from tests.faults.mutations import Edit, Mutant

LOOP, PROGRESS = "lapwing/notify/notify_loop.py", "lapwing/notify/progress.py"
DELIVERY, RECEIVERS = "lapwing/notify/delivery.py", "lapwing/notify/receivers.py"
NOTICE, BODIES = "shared/notices/notice.py", "shared/notices/bodies.py"
BUSY_S = 60.0
"""A killed service needs more than the usual patience to start where many other processes run."""

KILLS = "notify: kill -9 of every part between (full: 10,000 incidents)"

MUTANTS = (
    Mutant(
        "notify: a position is committed before its notices are delivered",
        (
            Edit(
                PROGRESS,
                "        offset = min([self.next, *first.values()])\n",
                "        offset = self.next\n",
            ),
        ),
        (KILLS,),
        patience_s=BUSY_S,
    ),
    Mutant(
        "notify: a restart skips more than was settled",
        (
            Edit(
                PROGRESS,
                "return 0 <= offset < self._settled.get(target, 0)",
                "return 0 <= offset < self._settled.get(target, 0) + 3",
            ),
        ),
        (KILLS,),
        patience_s=BUSY_S,
    ),
    Mutant(
        "notify: each attempt has a key of its own",
        (
            Edit(
                RECEIVERS,
                '"Idempotency-Key": notice.key}',
                '"Idempotency-Key": f"{notice.key}/{time.time()}"}',
            ),
        ),
        (KILLS,),
        patience_s=BUSY_S,
    ),
    Mutant(
        "notify: a mail that comes again has another Message-ID",
        (
            Edit(
                BODIES,
                "digest = hashlib.sha256(notice.key.encode()).hexdigest()[:32]",
                "digest = hashlib.sha256(notice.key.encode() + bytes([id(message) % 251]))"
                ".hexdigest()[:32]",
            ),
        ),
        (KILLS,),
        tries=3,
        patience_s=BUSY_S,
    ),
    Mutant(
        "notify: what fails once is given up",
        (
            Edit(
                DELIVERY,
                "if answer.refused or lasted_s >= self._give_up_after_s:",
                "if not answer.delivered:",
            ),
        ),
        (KILLS,),
        patience_s=BUSY_S,
    ),
    Mutant(
        "notify: what fails once is taken for delivered",
        (Edit(DELIVERY, "            if answer.delivered:\n", "            if answer:\n"),),
        (KILLS,),
        patience_s=BUSY_S,
    ),
    Mutant(
        "notify: the end of an incident does not end its alert",
        (
            Edit(
                BODIES,
                "end_ms = now_ms if is_over else now_ms + hold_ms",
                "end_ms = now_ms + 100 * hold_ms",
            ),
        ),
        (KILLS,),
        patience_s=BUSY_S,
    ),
    Mutant(
        "notify: open incidents are not sent again to Alertmanager",
        (
            Edit(
                LOOP,
                "if target.repeats and (target.delivery.has_recovered() or is_time):",
                "if target.repeats and not is_time and not target:",
            ),
        ),
        (KILLS,),
        patience_s=BUSY_S,
    ),
    Mutant(
        "notify: an incident that has become worse is no news",
        (
            Edit(
                NOTICE,
                'if change == "worse" and record["state"] == "open":',
                'if change == "worse" and record["state"] == "closed":',
            ),
        ),
        (KILLS,),
        patience_s=BUSY_S,
    ),
)
