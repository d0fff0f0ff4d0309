"""Where the rule packs and dashboards lie that come with the package."""

import glob
import re
from pathlib import Path

_NAME_OF_A_PACK = re.compile(r"bundled(?:/([^./\\*?[\]]+))?")


def bundled(name: str) -> Path:
    """The directory `rules` or `dashboards`: inside the installed package, else in the checkout.

    Raises FileNotFoundError when neither is there.
    """
    package = Path(__file__).parent
    for place in (package / "_bundled" / name, package.parents[1] / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"no bundled {name} beside {package}; reinstall the package")


def rule_packs() -> dict[str, str]:
    """What `rule_files` calls our own rules, and the paths or globs that it stands for: `bundled`
    for what the agent itself sees, `bundled/vllm` for an engine's own names."""
    rules = bundled("rules")
    others = sorted((rules / "prometheus").glob("*.yml"))
    agents = f"{glob.escape(str(rules))}/*.yml"
    return {"bundled": agents, **{f"bundled/{path.stem}": str(path) for path in others}}


def names_a_pack(text: str) -> bool:
    """Whether an entry of `rule_files` is the name of a pack, also of one that there is not."""
    return _NAME_OF_A_PACK.fullmatch(text) is not None
