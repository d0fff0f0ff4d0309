"""Where the rule packs and dashboards lie that come with the package."""

from pathlib import Path


def bundled(name: str) -> Path:
    """The directory `rules` or `dashboards`: inside the installed package, else in the checkout.

    Raises FileNotFoundError when neither is there.
    """
    package = Path(__file__).parent
    for place in (package / "_bundled" / name, package.parents[1] / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"no bundled {name} beside {package}; reinstall the package")
