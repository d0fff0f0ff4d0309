"""How many examples a property gets that takes long: a share in every run, all in the long one."""

import os


def examples(count: int) -> int:
    """`count` with TOCSIN_EXAMPLES=all, as in `scripts/test --hostile`; otherwise a sixth."""
    return count if os.environ.get("TOCSIN_EXAMPLES") == "all" else max(count // 6, 5)
