"""Which fields keep two builds apart (P1.6).

Definitions come from votes, so their authors choose every text in the answer; whoever prints it makes it safe first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from portage_p2pbin.kernel.definition import BuildDefinition, BuildRequest


@dataclass(frozen=True, slots=True)
class Difference:
    """A field, and what it holds on the one side and on the other; empty where a side does not have it.

    Of lists, such as `use`, only the words that the other side does not have.
    """

    field: str
    here: str
    there: str


def request_differences(here: BuildRequest, there: BuildRequest) -> tuple[Difference, ...]:
    """Why two build keys are not equal, by field; empty only if they are."""
    return tuple(_differences(dict(_flat("", here.as_json())), dict(_flat("", there.as_json()))))


def environment_differences(here: BuildDefinition, there: BuildDefinition) -> tuple[Difference, ...]:
    """What was installed differently while two builds were made, by package and program; empty only if nothing was."""
    return tuple(_differences(_environment(here), _environment(there)))


def _differences(here: Mapping[str, str | list[str]], there: Mapping[str, str | list[str]]) -> Iterator[Difference]:
    for field in sorted(here.keys() | there.keys()):
        mine, theirs = here.get(field, ""), there.get(field, "")
        if mine != theirs:
            yield Difference(field, _shown(mine, theirs), _shown(theirs, mine))


def _shown(one: str | list[str], other: str | list[str]) -> str:
    if isinstance(one, str):
        return one
    same_words = set(one) == set(other)
    return " ".join(word for word in one if same_words or word not in other)


def _flat(prefix: str, values: Mapping[str, object]) -> Iterator[tuple[str, str | list[str]]]:
    """Each value by its field; those in a mapping as `sources.ebuild`."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        elif isinstance(value, list):
            yield f"{prefix}{name}", list(map(str, value))
        else:
            yield f"{prefix}{name}", str(value)


def _environment(definition: BuildDefinition) -> dict[str, str | list[str]]:
    """Slot, USE and digest of each dependency, and the digest of each program."""
    packages: dict[str, str | list[str]] = {
        f"dependency {one.cpv}": f"slot {one.slot}, USE {' '.join(one.use) or '-'}, {one.installed}" for one in definition.dependencies
    }
    return packages | {f"program {name}": digest for name, digest in definition.programs.items()}
