"""What a claim is checked against: numbers by table, row and column, the paper's own or ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping


class Unknown(Exception):
    """A number that a check needs is not there."""


class Untestable(Exception):
    """The numbers are there, but runs of this kind cannot decide the claim; says why."""


class Rows:
    """A table's numbers by row label.

    labels: the rows that a complete table has. margin: how far two of its averages may be apart and still count as alike.
    setting: what its numbers hold for, where that is not the page's.
    """

    def __init__(
        self,
        name: str,
        values: Mapping[str, Mapping[str, float | None]],
        labels: Iterable[str] = (),
        margin: float | None = None,
        setting: str = "",
    ):
        self.name, self.values, self.setting = name, values, setting
        self.labels = list(dict.fromkeys([*labels, *values]))
        self._margin = margin

    @property
    def margin(self) -> float:
        """Raises `Unknown` if nothing tells what it is."""
        if self._margin is None:
            raise Unknown(self.name)
        return self._margin

    def of(self, label: str, key: str) -> float:
        """A number. Raises `Unknown`, naming it, if it is not there."""
        value = self.values.get(label, {}).get(key)
        if value is None:
            raise Unknown(f"{label!r} of {self.name}")
        return float(value)

    def column(self, labels: Iterable[str], key: str) -> dict[str, float]:
        """A number of several rows. Raises `Unknown` if one is not there, or no row at all."""
        found = {label: self.of(label, key) for label in labels}
        if not found:
            raise Unknown(self.name)
        return found


class Evidence:
    """Tables by experiment, or by another name for what no run decides: ``counts/...``, ``benchmarks/...``.

    A table may be a function that makes it when it is first asked for.
    """

    def __init__(self, tables: Mapping[str, Rows | Callable[[], Rows]]):
        self.tables = dict(tables)

    def rows(self, name: str) -> Rows:
        """A table. Raises `Unknown` if there is none."""
        if name not in self.tables:
            raise Unknown(name)
        found = self.tables[name]
        if not isinstance(found, Rows):
            found = self.tables[name] = found()
        return found


def rises(x: Iterable[float], y: Iterable[float]) -> tuple[bool, str]:
    """Does y rise with x? By rank correlation: positive, with p below 0.05."""
    from scipy.stats import spearmanr

    x, y = list(x), list(y)
    found = spearmanr(x, y)
    return bool(found.statistic > 0 and found.pvalue < 0.05), (
        f"Spearman's rho {found.statistic:.2f}, p = {found.pvalue:.2g}, {len(x)} rows"
    )
