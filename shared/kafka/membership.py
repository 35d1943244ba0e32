"""Whether this process still speaks for the group when it commits.

Law: positions are committed in the name of a member and its generation, or not at all.
"""

from __future__ import annotations

import struct
from typing import Any


def is_member(metadata: Any) -> bool:
    """Tell whether serialised group metadata speaks for a member that holds a generation.

    metadata : what ``Consumer.consumer_group_metadata`` returned: "CGMDv2:", int32 generation, group, 0, member, 0, ...
    """
    if not isinstance(metadata, bytes) or not metadata.startswith(b"CGMDv2:"):
        return True
    (generation,) = struct.unpack_from("=i", metadata, 7)
    fields = metadata[11:].split(b"\0")
    return generation >= 0 and len(fields) > 1 and bool(fields[1])
